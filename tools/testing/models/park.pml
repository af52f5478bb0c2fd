/* SPDX-License-Identifier: GPL-2.0 */
/*
 * park.pml: a slot never has two tables, and a parked one is taken back once.
 *
 * Part	two need a table in one slot at the same time: one that is parked
 *	there, a fresh one, or the one that reserve brings just then.
 *
 * Actors	either two mappers of a page each, twice, with an unmap of the whole
 *	slot before and after, which parks the table with its entries as they
 *	are; or two unmaps of a page each of a block, which both split it, and
 *	the hardware, which may set the block's dirty bit; a reserve of the slot
 *	at any time; or a software walker (iova_to_phys) of the first page.
 *
 * Asserted	one table is linked in the end, and nothing is leaked, freed twice or
 *	looked at when freed; no mapping is lost, and no dirty bit; no old entry
 *	is in the way of a map; inside a reservation map allocates nothing; the
 *	walker sees what was true at some time during its walk, though a parked
 *	table is used again without a grace period; no deadlock.
 *
 * Left out	the sweep, flushes, marks above: the parent is the root.
 *
 * Two levels: the root with one slot that matters, T with three pages.
 */
#define TABLES	7
#define SLOTS	3
#include "common.h"

#define DIRTY	50			/* added to a leaf */

byte children;				/* reserved tables below the root */
byte ended;				/* mappers or unmaps of this round */
bool dirty;				/* the hardware has set it */

/* what the first page may translate to now, and has since the walker began */
short truth, may;
#define VALUE(e)	(1 << ((e) == NONE -> 0 : (e) % DIRTY + 1))
inline set_truth(V)
{
	d_step {
		truth = V;
		if
		:: inside & 16 -> may = may | truth
		:: else
		fi
	}
}

/* take what is parked in the slot, if anything */
inline take(C)
{
	C = PARKED(ROOT, 0);
	PARKED(ROOT, 0) = NONE
}

inline clear_entries(C)
{
	store(C, 0, NONE);
	store(C, 1, NONE);
	store(C, 2, NONE)
}

inline unmark(C, N) { d_step { use(C); live[C] = N } }

/* bring a table into the slot; t is the one that is there then, or NONE */
inline bring()
{
	lock(ROOT);
#ifndef MUTANT_NO_SECOND_LOOK_AT_ENTRY
	load(ROOT, 0, t);
#endif
	if
	:: t != NONE
	:: else ->
		take(t);
		if
		:: t == NONE -> t = fresh; fresh = NONE
		:: else
		fi;
		if
		:: t == NONE
		:: else ->
#ifdef MUTANT_CLEAR_AFTER_LINK
			unmark(t, 0);
			store(ROOT, 0, t);
			clear_entries(t)
#else
#ifndef MUTANT_TAKE_BACK_UNCLEARED
			clear_entries(t);
#endif
			unmark(t, 0);
#ifdef MUTANT_NO_SECOND_LOOK_AT_ENTRY
			store(ROOT, 0, t)
#else
			cmpxchg(ROOT, 0, NONE, t, e);
			assert(e == NONE)
#endif
#endif
		fi
	fi;
	unlock(ROOT)
}

proctype mapper(byte me, slot, value)
{
	byte t, e, fresh;
	int list;
	bool holding, ok, reserved;

	reserved = (children > 0);
	if
	:: slot == 0 -> set_truth(truth | VALUE(value))
	:: else
	fi;
	do
	:: rcu_lock();
	   load(ROOT, 0, t);
	   if
	   /* is it worth to lock? */
#ifdef MUTANT_LOOKS_FOR_PARKED_WITHOUT_LOCK
	   :: t == NONE && fresh == NONE && PARKED(ROOT, 0) == NONE
#else
	   :: t == NONE && fresh == NONE && PARKED(ROOT, 0) == NONE && children == 0
#endif
	   :: else ->
		if
		:: t == NONE -> bring()
		:: else
		fi
	   fi;
	   if
	   :: t != NONE -> break
	   :: else -> rcu_unlock(); assert(!reserved); alloc(fresh)
	   fi
	od;
	add(t, 1);
	assert(ok);
	load(t, slot, e);
	assert(e == NONE);
	store(t, slot, value);
	rcu_unlock();
	if
	:: slot == 0 -> set_truth(VALUE(value))
	:: else
	fi;
	if
	:: fresh != NONE -> collect(list, fresh); retire(list); fresh = 0
	:: else
	fi;
	d_step { t = 0; e = 0; ok = 0; reserved = 0 };
	ended++
}

/* fill C from block B, but for one page */
inline fill(C, B)
{
	store(C, 0, (slot == 0 -> NONE : B));
	store(C, 1, (slot == 1 -> NONE : B));
	store(C, 2, B)
}

/* unmap a page of a block; the second to come finds a table */
proctype unmap_part(byte me, slot)
{
	byte t, e, was, fresh;
	int list;
	bool holding, ok, reserved;

	reserved = (children > 0);
	if
	:: slot == 0 -> set_truth(truth | VALUE(NONE))
	:: else
	fi;
	rcu_lock();
	do
	:: lock(ROOT);
	   load(ROOT, 0, e);
	   if
	   :: is_table(e) -> unlock(ROOT); break
	   :: else
	   fi;
	   assert(is_leaf(e));
#ifdef MUTANT_SPLIT_LOOKS_FOR_PARKED_ONCE
	   if
	   :: fresh == NONE -> take(t)
	   :: else -> t = NONE
	   fi;
#else
	   take(t);
#endif
	   if
	   :: t == NONE -> t = fresh; fresh = NONE
	   :: else
	   fi;
	   if
	   :: t == NONE -> unlock(ROOT); assert(!reserved); alloc(fresh)
	   :: else ->
		fill(t, e);
		unmark(t, 2);
		do
		:: cmpxchg(ROOT, 0, e, t, was);
		   if
		   :: was == e -> break
		   :: else ->
			assert(is_leaf(was));
			e = was;
#ifndef MUTANT_SPLIT_RETRY_WITHOUT_REFILL
			fill(t, e)
#endif
		   fi
		od;
		unlock(ROOT);
		e = NONE;
		break
	   fi
	od;
	if
	:: is_table(e) ->
		t = e;
		load(t, slot, e);
		assert(is_leaf(e));
		store(t, slot, NONE);
		sub(t, 1)
	:: else
	fi;
	rcu_unlock();
	if
	:: slot == 0 -> set_truth(VALUE(NONE))
	:: else
	fi;
	if
	:: fresh != NONE -> collect(list, fresh); retire(list); fresh = 0
	:: else
	fi;
	d_step { t = 0; e = 0; ok = 0; reserved = 0 };
	ended++
}

/* of the whole slot; who runs this is init */
inline unmap_whole()
{
	set_truth(truth | VALUE(NONE));
	rcu_lock();
	load(ROOT, 0, t);
	if
	:: is_table(t) ->
		mark(t);
		lock(ROOT);
		load(ROOT, 0, e);
		assert(e == t);
		store(ROOT, 0, NONE);
		if
		:: children ->
			d_step { assert(!PARKED(ROOT, 0)); PARKED(ROOT, 0) = t }
		:: else -> collect(list, t)
		fi;
		unlock(ROOT);
		retire(list)
	:: else
	fi;
	rcu_unlock();
	set_truth(VALUE(NONE))
}

/* of the one slot; what it has allocated it keeps until it knows */
proctype reserve(byte me)
{
	byte t, e;
	int list;
	bool holding, ok;

	alloc(t);
	lock(ROOT);
	load(ROOT, 0, e);
	if
	:: is_table(e) || PARKED(ROOT, 0) -> collect(list, t)
	:: else ->
		if
		:: e == NONE ->
			cmpxchg(ROOT, 0, NONE, t, e);
			assert(e == NONE)	/* no one maps a block here */
		:: else ->
			mark(t);
			PARKED(ROOT, 0) = t
		fi
	fi;
	children++;
	unlock(ROOT);
	retire(list);
	done++
}

proctype walker(byte me)
{
	byte t;

	rcu_lock();
	may = truth;
	load(ROOT, 0, t);
	if
	:: is_table(t) -> load(t, 0, t)
	:: else
	fi;
	assert(may & VALUE(t));
	t = 0;
	may = 0;
	rcu_unlock();
	done++
}

inline set_dirty()
{
	atomic {
		if
		:: is_leaf(E(ROOT, 0)) -> E(ROOT, 0) = E(ROOT, 0) + DIRTY; dirty = true
		:: else
		fi
	}
}
proctype hardware()
{
	set_dirty();
	done++
}

inline two_maps(N)
{
	ended = 0;
	atomic { run mapper(2, 0, N); run mapper(4, 1, N) };
	atomic { ended == 2 -> ended = 0 };
	d_step {
		t = E(ROOT, 0);
		assert(is_table(t));
		assert(E(t, 0) == N && E(t, 1) == N && E(t, 2) == NONE);
		t = 0
	}
}

init
{
	byte me = 1, t, e, n;
	int list;
	bool holding;

	if
	:: true ->		/* from a block */
		atomic {
			E(ROOT, 0) = LEAF;
			truth = VALUE(LEAF);
			n = 2;
			run reserve(8);
			if
			:: true -> run walker(16)
			:: true -> run hardware()
			fi;
			run unmap_part(2, 0);
			run unmap_part(4, 1)
		};
		atomic { ended == 2 -> ended = 0 }
	:: true ->		/* from a table full of pages, or from nothing */
		atomic {
			truth = VALUE(NONE);
			n = 1;
			if
			:: true -> run reserve(8)
			:: true ->
				allocated = 2;
				E(ROOT, 0) = 2;
				E(2, 0) = LEAF;
				E(2, 1) = LEAF;
				E(2, 2) = LEAF;
				live[2] = 3;
				truth = VALUE(LEAF);
				if
				:: true -> run reserve(8)
				:: true -> children = 1; run walker(16)
				fi
			fi
		};
		unmap_whole();
		two_maps(LEAF + 1);
		unmap_whole();
		two_maps(LEAF + 2)
	fi;
	atomic { done == n -> done = 0 };
	d_step {
		t = E(ROOT, 0);
		assert(is_table(t));
		assert(E(t, 2) == NONE || E(t, 2) == (dirty -> LEAF + DIRTY : LEAF))
	};
	nothing_lost()
}
