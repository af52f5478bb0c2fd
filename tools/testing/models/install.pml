/* SPDX-License-Identifier: GPL-2.0 */
/*
 * install.pml: when map returns, no walk cache leads past it.
 *
 * Part	a table is brought into an empty slot, and a block fills one, while
 *	the sweep of unreserve unlinks empty tables and has not flushed yet.
 *
 * Actors	either two mappers of 4K pages in one leaf table and a sweep, or one
 *	that maps and unmaps twice, 4K pages or blocks, and two sweeps; the
 *	hardware, which walks at any time and keeps what entries for tables it
 *	has read until a flush.
 *
 * Asserted	at the return of map, and until unmap begins, the hardware finds the
 *	mapping and its walk cache holds nothing else than what is linked; it
 *	never walks a freed table; no leak, no double free, no deadlock.
 *
 * Left out	reservations and parked tables; leaf TLB entries; a flush that takes
 *	time (walks in flight are the walk cache's contents, and a flush ends
 *	them); neighbours in the upper tables.
 *
 * Three levels: the root, P in its only slot, T in P's only slot.  Leaf tables
 * have two slots, of which upper tables use the first.
 */
#define TABLES	10
#define SLOTS	2
#include "common.h"

bool pending;
bool mapped[2];			/* map has returned, unmap has not begun */
byte wc_p, wc_t;		/* walk cache: what the root's entry and P's led to */

inline flush() { d_step { wc_p = NONE; wc_t = NONE } }

active proctype hardware()
{
	byte e;
end:	do
	:: d_step { is_table(E(ROOT, 0)) -> wc_p = E(ROOT, 0) }
	:: d_step {
		wc_p != NONE ->
		use(wc_p);
		e = E(wc_p, 0);
		if
		:: is_table(e) -> wc_t = e
		:: is_leaf(e)
		:: e == NONE -> assert(!mapped[0] && !mapped[1])
		fi;
		e = 0
	   }
	:: d_step {
		wc_t != NONE ->
		use(wc_t);
		assert(!mapped[0] || is_leaf(E(wc_t, 0)));
		assert(!mapped[1] || is_leaf(E(wc_t, 1)))
	   }
	od
}

mtype = { AGAIN, RESTART, NEED, DONE };	/* what became of a walk */

/* bring a table into the slot of P; C is the one that is there then */
inline bring(P, C)
{
	lock(P);
	add(P, 1);
	if
	:: !ok -> res = RESTART
	:: else ->
		load(P, 0, C);
		if
		:: is_table(C) -> sub(P, 1)
		:: else ->
			assert(C == NONE);
			if
			:: fresh == NONE -> sub(P, 1); res = NEED
			:: else ->
				C = fresh;
				fresh = NONE;
#ifdef MUTANT_NO_PENDING_CHECK_FOR_TABLE
				cmpxchg(P, 0, NONE, C, was);
#else
#ifdef MUTANT_FLUSH_AFTER_LINK
				cmpxchg(P, 0, NONE, C, was);
				if
				:: pending -> flush()
				:: else
				fi;
#else
				if
				:: pending -> flush()
				:: else
				fi;
				cmpxchg(P, 0, NONE, C, was);
#endif
#endif
				assert(was == NONE)
			fi
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

/* after a walk: what to do before the next one */
inline between_walks()
{
	if
	:: res == RESTART -> settle(); res = AGAIN
	:: res == NEED -> alloc(fresh); res = AGAIN
	:: res == AGAIN || res == DONE
	fi
}

inline walk_to_p()
{
	rcu_lock();
	load(ROOT, 0, p);
	if
	:: p == NONE -> bring(ROOT, p)
	:: else
	fi
}

inline map_page()
{
	res = AGAIN;
	do
	:: res == DONE -> break
	:: else ->
		walk_to_p();
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
			add(t, 1);
			if
			:: ok -> store(t, slot, LEAF); res = DONE
			:: else -> res = RESTART
			fi
		:: else
		fi;
		rcu_unlock();
		between_walks()
	od;
	atomic {
		assert(wc_p == NONE || wc_p == p);
		assert(wc_t == NONE || wc_t == t);
		mapped[slot] = true
	}
}

inline unmap_page()
{
	mapped[slot] = false;
	store(t, slot, NONE);
	sub(t, 1)
}

/* a block over table t, in which nothing is mapped */
inline unlink()
{
	mark(t);
	lock(p);
	load(p, 0, was);
	if
	:: was == t -> store(p, 0, NONE); unlinked = 1
	:: else -> t = NONE
	fi;
	unlock(p);
	flush();
	if
	:: t != NONE -> collect(list, t); retire(list)
	:: else
	fi
}

inline map_block()
{
	res = AGAIN;
	do
	:: res == DONE -> break
	:: else ->
		walk_to_p();
		if
		:: res == AGAIN ->
			add(p, 1);
			if
			:: !ok -> res = RESTART
			:: else ->
#ifdef MUTANT_BLOCK_LOOKS_AT_PENDING_FIRST
				if
				:: pending -> flush()
				:: else
				fi;
#endif
				do
				:: cmpxchg(p, 0, NONE, LEAF, t);
				   if
				   :: t == NONE -> break
				   :: else -> assert(is_table(t)); unlink()
				   fi
				od;
#ifndef MUTANT_BLOCK_LOOKS_AT_PENDING_FIRST
#ifndef MUTANT_NO_PENDING_CHECK_FOR_BLOCK
				if
				:: pending -> flush()
				:: else
				fi;
#endif
#endif
				if
				:: unlinked -> sub(p, 1); unlinked = 0
				:: else
				fi;
				res = DONE
			fi
		:: else
		fi;
		rcu_unlock();
		between_walks()
	od;
	atomic {
		assert(wc_p == NONE || wc_p == p);
		assert(wc_t == NONE);
		mapped[0] = true;
		mapped[1] = true
	}
}

inline unmap_block()
{
	d_step { mapped[0] = false; mapped[1] = false };
	store(p, 0, NONE);
	sub(p, 1)
}

proctype mapper(byte me, slot, rounds; bool blocks)
{
	byte p, t, was, fresh;
	mtype res;
	int list;
	bool holding, ok, unlinked;

	do
	:: rounds > 0 ->
		rounds--;
		if
		:: true -> map_page(); unmap_page()
		:: blocks -> map_block(); unmap_block()
		fi;
		d_step { p = 0; t = 0; was = 0; ok = 0 }
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
	lock(P);
	load(P, 0, e);
	if
	:: e == C ->
		try_mark(C);
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
#ifndef MUTANT_PENDING_RAISED_LATE
		pending = true;
#endif
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
#ifdef MUTANT_PENDING_RAISED_LATE
		pending = true;
#endif
#ifdef MUTANT_PENDING_DROPPED_EARLY
		pending = false;
#endif
#ifdef MUTANT_FREE_BEFORE_FLUSH
		retire(list);
		flush();
#else
		if
		:: list -> flush()
		:: else
		fi;
#endif
		pending = false;
		retire(list);
		d_step { p = 0; t = 0; e = 0; ok = 0 }
	:: else -> break
	od;
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
		if
		:: true -> run sweep(1, 2); run mapper(2, 0, 2, true); n = 2
		:: true ->
			run sweep(1, 1);
			run mapper(2, 0, 1, false);
			run mapper(4, 1, 1, false);
			n = 3
		fi
	};
	atomic { done == n -> nothing_lost() }
}
