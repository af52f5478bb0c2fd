/* SPDX-License-Identifier: GPL-2.0 */
/*
 * reserve.pml: after reserve there is a table for the slot, and only one.
 *
 * Part	reserve of a slot's pages finds a table, links one, or parks one,
 *	while a block is mapped and unmapped in the slot, by unmaps of the whole
 *	slot that park the table or let it leave.
 *
 * Actors	one that maps the slot, as a block or by its page, and unmaps it, three
 *	times; one that reserves it twice, one after the other or nested, and counts
 *	what is missing before it allocates, and again if that was too little.
 *
 * Asserted	from reserve to unreserve one table is linked or parked, whenever nobody
 *	has the parking lock, and map allocates nothing; after unreserve nothing
 *	is parked; what is mapped stays; nothing is leaked, freed twice or looked
 *	at when freed; no deadlock.
 *
 * Left out	the hardware and flushes; marks above: the parent is the root; the mutex:
 *	there is one that reserves; failures.
 *
 * Two levels: the root with one slot, T with one page.
 */
#define TABLES	9
#define SLOTS	1
#include "common.h"

byte children;				/* reserved tables below the root */
bool reserved;				/* reserve has returned */
bool promised;				/* ... before this map, and still holds */

active proctype monitor()
{
end:	do
	:: atomic {
		reserved && !locked[ROOT] ->
		assert(is_table(E(ROOT, 0)) != (PARKED(ROOT, 0) != NONE))
	   }
	od
}

/* table t, of which nothing is needed any more */
inline unlink()
{
	mark(t);
#ifdef MUTANT_PARK_DECIDED_BEFORE_LOCK
	ok = (children > 0);
	lock(ROOT);
#else
	lock(ROOT);
	ok = (children > 0);
#endif
	load(ROOT, 0, e);
	if
	:: e == t ->
		store(ROOT, 0, NONE);
		if
		:: ok ->
			d_step { assert(!PARKED(ROOT, 0)); PARKED(ROOT, 0) = t; t = NONE }
		:: else
		fi
	:: else -> t = NONE
	fi;
	unlock(ROOT);
	if
	:: t != NONE -> collect(list, t); retire(list)
	:: else
	fi
}

inline map_block()
{
	rcu_lock();
#ifdef MUTANT_BLOCK_BY_STORE
	load(ROOT, 0, t);
	if
	:: t != NONE -> unlink()
	:: else
	fi;
	store(ROOT, 0, LEAF);
#else
	do
	:: cmpxchg(ROOT, 0, NONE, LEAF, t);
	   if
	   :: t == NONE -> break
	   :: else -> assert(is_table(t)); unlink()
	   fi
	od;
#endif
	rcu_unlock()
}

inline map_page()
{
	do
	:: rcu_lock();
	   load(ROOT, 0, t);
	   if
	   :: t == NONE ->
		lock(ROOT);
		load(ROOT, 0, t);
		if
		:: t == NONE ->
			d_step { t = PARKED(ROOT, 0); PARKED(ROOT, 0) = NONE };
			if
			:: t == NONE -> t = fresh; fresh = NONE
			:: else -> store(t, 0, NONE); d_step { use(t); live[t] = 0 }
			fi;
			if
			:: t != NONE -> cmpxchg(ROOT, 0, NONE, t, e); assert(e == NONE)
			:: else
			fi
		:: else
		fi;
		unlock(ROOT)
	   :: else
	   fi;
	   if
	   :: t == NONE -> rcu_unlock(); assert(!promised); alloc(fresh)
	   :: else ->
		add(t, 1);
		if
		:: ok -> store(t, 0, LEAF); rcu_unlock(); break
		:: else -> rcu_unlock(); lock(ROOT); unlock(ROOT)
		fi
	   fi
	od
}

/* of the whole slot, page or block */
inline unmap()
{
	rcu_lock();
	load(ROOT, 0, t);
	if
	:: t == LEAF -> assert(by_block); store(ROOT, 0, NONE)
	:: else ->
		assert(!by_block && is_table(t));
		load(t, 0, e);
		assert(e == LEAF);
		unlink()
	fi;
	rcu_unlock()
}

proctype user(byte me)
{
	byte t, e, fresh, rounds = 3;
	int list;
	bool holding, ok, by_block;

	do
	:: rounds > 0 ->
		rounds--;
		atomic {
			promised = reserved;
			if
			:: true -> by_block = true
			:: true -> by_block = false
			fi
		};
		if
		:: by_block -> map_block()
		:: else -> map_page()
		fi;
		if
		:: fresh != NONE -> collect(list, fresh); retire(list); fresh = NONE
		:: else
		fi;
		unmap();
		d_step { t = 0; e = 0; ok = 0; by_block = 0; promised = 0 }
	:: else -> break
	od;
	done++
}

/* what there is for the slot, under the parking lock */
inline find()
{
	load(ROOT, 0, e);
	if
	:: is_table(e) -> t = e
#ifdef MUTANT_FIND_KNOWS_NO_PARKED
	:: else -> t = NONE
#else
	:: else -> t = PARKED(ROOT, 0)
#endif
	fi
}

/* bring t from the stock */
inline link_or_park()
{
#ifdef MUTANT_RESERVE_LINKS_BY_STORE
	load(ROOT, 0, e);
	if
	:: e == NONE -> store(ROOT, 0, t)
	:: else -> mark(t); PARKED(ROOT, 0) = t
	fi
#else
#ifdef MUTANT_RESERVE_GIVES_UP_AT_BLOCK
	cmpxchg(ROOT, 0, NONE, t, e);
	if
	:: e != NONE -> collect(list, t)
	:: else
	fi
#else
	if
	:: e == NONE -> cmpxchg(ROOT, 0, NONE, t, e)
	:: else
	fi;
	if
	:: e != NONE -> mark(t); PARKED(ROOT, 0) = t
	:: else
	fi
#endif
#endif
}

inline reserve()
{
	/* what is missing? */
	do
	:: rcu_lock();
	   lock(ROOT);
	   find();
	   unlock(ROOT);
	   rcu_unlock();
	   if
	   :: t == NONE && stock == NONE -> alloc(stock)
	   :: else
	   fi;
	   lock(ROOT);
	   find();
#ifdef MUTANT_NO_NEW_COUNT
	   break
#else
	   if
	   :: t != NONE || stock != NONE -> break
	   :: else -> unlock(ROOT)	/* it has left meanwhile: again */
	   fi
#endif
	od;
	if
	:: t == NONE && stock != NONE -> t = stock; stock = NONE; link_or_park()
	:: else
	fi;
#ifdef MUTANT_RESERVE_COUNTS_AFTER_LOCK
	unlock(ROOT);
	children++;
#else
	children++;
	unlock(ROOT);
#endif
	reserved = true;
	if
	:: stock != NONE -> collect(list, stock); retire(list); stock = NONE
	:: else
	fi
}

inline sweep()
{
	rcu_lock();
	lock(ROOT);
	d_step { t = PARKED(ROOT, 0); PARKED(ROOT, 0) = NONE };
	unlock(ROOT);
	if
	:: t != NONE -> collect(list, t)
	:: else
	fi;
	lock(ROOT);
	load(ROOT, 0, t);
	if
	:: is_table(t) ->
		try_mark(t);
		if
		:: ok ->
			load(t, 0, e);
			assert(e == NONE);
			store(ROOT, 0, NONE);
			collect(list, t)
		:: else
		fi
	:: else
	fi;
	unlock(ROOT);
	rcu_unlock();
	retire(list)
}

/* the sweep is the last one's: the others find the slot reserved */
inline unreserve()
{
	d_step {
		if
		:: children == 1 -> reserved = false; promised = false
		:: else
		fi
	};
	lock(ROOT);
	children--;
	unlock(ROOT);
	if
	:: !children -> sweep()
	:: else
	fi
}

proctype reserver(byte me)
{
	byte t, e, stock, rounds = 2;
	int list;
	bool holding, ok, nested;

	if
	:: true -> nested = true
	:: true
	fi;
	do
	:: rounds > 0 ->
		rounds--;
		reserve();
		d_step { t = 0; e = 0 };
		if
		:: nested && rounds > 0
		:: else -> unreserve()
		fi;
		d_step { t = 0; e = 0; ok = 0 }
	:: else -> break
	od;
	if
	:: nested -> unreserve()
	:: else
	fi;
	done++
}

init
{
	atomic {
		run user(1);
		run reserver(2)
	};
	atomic {
		done == 2;
		assert(!PARKED(ROOT, 0) && !children);
		nothing_lost()
	}
}
