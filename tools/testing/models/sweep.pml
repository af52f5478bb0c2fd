/* SPDX-License-Identifier: GPL-2.0 */
/*
 * sweep.pml: map and unmap of pages against the sweep of unreserve.
 *
 * Part	map adds to live before it writes, unmap subtracts as its last access;
 *	the sweep turns live from 0 to MARKED, looks at the entries, unlinks,
 *	waits for a grace period and frees.
 *
 * Actors	either two that map and unmap a page each in one leaf table, and a
 *	sweep; or one that does it twice, two sweeps, and a software walker
 *	(iova_to_phys) of that page.
 *
 * Asserted	what is mapped is found, by unmap and by the walker; the sweep finds
 *	no entry in a table that it has marked; nobody looks at a freed table
 *	(unmap is in no read section: its entries have to do); no table refuses
 *	the same mapper twice, so that mappers end; no leak, no double free, no
 *	deadlock; live is right at the end.
 *
 * Left out	the hardware and flushes, reservations, parked tables, blocks.
 *
 * Three levels: the root, P in its only slot, T in P's only slot.  Leaf tables
 * have two slots, of which upper tables use the first.
 */
#define TABLES	10
#define SLOTS	2
#include "common.h"

bool mapped[2];			/* map has returned, unmap has not begun */
byte unmaps;			/* how many of the first page have begun */

mtype = { AGAIN, RESTART, NEED, DONE };	/* what became of a walk */

inline map_rcu_lock()
{
#ifdef MUTANT_MAP_WITHOUT_READ_SECTION
	skip
#else
	rcu_lock()
#endif
}

inline map_rcu_unlock()
{
#ifdef MUTANT_MAP_WITHOUT_READ_SECTION
	skip
#else
	rcu_unlock()
#endif
}

/* P has refused: never a second time */
inline refused_by(P)
{
	assert(refused != P);
	refused = P;
	res = RESTART
}

/* bring a table into the slot of P; C is the one that is there then */
inline bring(P, C)
{
	lock(P);
#ifdef MUTANT_BRING_WITHOUT_ADD
	ok = true;
#else
	add(P, 1);
#endif
	if
	:: !ok -> refused_by(P)
	:: else ->
		load(P, 0, C);
		if
		:: C != NONE -> sub(P, 1)
		:: C == NONE && fresh == NONE -> sub(P, 1); res = NEED
		:: C == NONE && fresh != NONE ->
			C = fresh;
			fresh = NONE;
			cmpxchg(P, 0, NONE, C, e);
			assert(e == NONE);
#ifdef MUTANT_BRING_WITHOUT_ADD
			add(P, 1);
#endif
		fi
	fi;
	unlock(P)
}

/* pass through the parking locks on the way, outside of map's read section */
inline settle()
{
	rcu_lock();
	lock(ROOT);
	unlock(ROOT);
	load(ROOT, 0, p);
	if
	:: p != NONE -> lock(p); unlock(p)
	:: else
	fi;
	rcu_unlock()
}

inline map_page()
{
	res = AGAIN;
	do
	:: res == DONE -> break
	:: res == RESTART -> settle(); res = AGAIN
	:: res == NEED -> alloc(fresh); res = AGAIN
	:: res == AGAIN ->
		map_rcu_lock();
		load(ROOT, 0, p);
		if
		:: p == NONE -> bring(ROOT, p)
		:: else
		fi;
		if
		:: res == AGAIN ->
			load(p, 0, t);
			if
			:: t == NONE -> bring(p, t)
			:: else
			fi
		:: else
		fi;
		if
		:: res == AGAIN ->
#ifdef MUTANT_ADD_AFTER_WRITE
			store(t, slot, LEAF);
#endif
			add(t, 1);
			if
			:: ok ->
				store(t, slot, LEAF);
				res = DONE
			:: else -> refused_by(t)
			fi
		:: else
		fi;
		map_rcu_unlock()
	od;
	mapped[slot] = true
}

inline unmap_page()
{
	atomic {
		mapped[slot] = false;
		if
		:: slot == 0 -> unmaps++
		:: else
		fi
	};
	load(ROOT, 0, p);
	load(p, 0, t);
	load(t, slot, e);
	assert(is_leaf(e));
#ifdef MUTANT_SUB_BEFORE_CLEAR
	sub(t, 1);
	store(t, slot, NONE)
#else
	store(t, slot, NONE);
	sub(t, 1)
#endif
}

proctype mapper(byte me, slot, rounds)
{
	byte p, t, e, fresh, refused;
	mtype res;
	int list;
	bool holding, ok;

	do
	:: rounds > 0 ->
		rounds--;
		map_page();
		unmap_page();
		d_step { p = 0; t = 0; e = 0; ok = 0 }
	:: else -> break
	od;
	if
	:: fresh != NONE -> collect(list, fresh); retire(list)
	:: else
	fi;
	done++
}

/* free child C of P, if it is linked and empty */
inline try_free(P, C)
{
#ifdef MUTANT_MARK_BEFORE_LOCK
	try_mark(C);
	lock(P);
#else
	lock(P);
#endif
	load(P, 0, e);
	if
	:: e == C ->
#ifdef MUTANT_MARK_IN_TWO_STEPS
		ok = (live[C] == 0);
		if
		:: ok -> mark(C)
		:: else
		fi;
#else
#ifndef MUTANT_MARK_BEFORE_LOCK
		try_mark(C);
#endif
#endif
		if
		:: ok ->
			d_step { use(C); assert(E(C, 0) == NONE && E(C, 1) == NONE) };
			store(P, 0, NONE);
			sub(P, 1);
			collect(list, C)
		:: else
		fi
	:: else
	fi;
	unlock(P)
}

proctype sweep(byte me, rounds)
{
	byte p, t, e;
	int list;
	bool holding, ok;

	do
	:: rounds > 0 ->
		rounds--;
		rcu_lock();
		load(ROOT, 0, p);
		if
		:: is_table(p) ->
			load(p, 0, t);
			if
			:: is_table(t) -> try_free(p, t)
			:: else
			fi;
			try_free(ROOT, p)
		:: else
		fi;
		rcu_unlock();
#ifdef MUTANT_NO_GRACE_PERIOD
		d_step { e = inside; inside = 0; retire(list); inside = e };
#else
		retire(list);
#endif
		d_step { p = 0; t = 0; e = 0; ok = 0 }
	:: else -> break
	od;
	done++
}

/* looks once, at any time */
proctype walker(byte me)
{
	byte e, n;
	bool was;

	rcu_lock();
	d_step { was = mapped[0]; n = unmaps };
	load(ROOT, 0, e);
	if
	:: is_table(e) ->
		load(e, 0, e);
		if
		:: is_table(e) -> load(e, 0, e)
		:: else
		fi
	:: else
	fi;
	assert(!was || n != unmaps || is_leaf(e));
	e = 0; n = 0; was = 0;
	rcu_unlock();
	done++
}

init
{
	byte n;

	atomic {
		allocated = 3;
		E(ROOT, 0) = 2;
		E(2, 0) = 3;
		live[2] = 1;
		n = 3;
		if
		:: true -> run sweep(1, 2); run mapper(2, 0, 2); run walker(8)
		:: true -> run sweep(1, 1); run mapper(2, 0, 1); run mapper(4, 1, 1)
		fi
	};
	atomic { done == n -> nothing_lost() }
}
