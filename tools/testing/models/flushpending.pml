/* SPDX-License-Identifier: GPL-2.0 */
/*
 * flushpending.pml: a parked table is freed before who parked it has flushed.
 *
 * Part	an unmap of a whole slot unlinks the table, which is parked or leaves,
 *	and flushes; meanwhile unreserve drops the last reservation, and its
 *	sweep frees what is parked, and what is linked and empty.
 *
 * Actors	one that unmaps the slot and then maps a page there again; the last
 *	unreserve with its sweep; the hardware, which walks at any time and keeps
 *	the entry for the table until a flush.
 *
 * Asserted	the hardware never walks a freed table; when unmap returns the hardware
 *	finds nothing there, and when map returns, what was mapped; no leak, no
 *	double free, no deadlock.
 *
 * The flush of unmap comes after its read section here, as where a driver flushes at
 * the end of its operation; so the grace period is no help.
 *
 * Left out	marks above: the parent is the root; leaf TLB entries; the flush
 *	covers one slot, which is all there is.
 *
 * Two levels: the root with one slot, T with one page.
 */
#define TABLES	4
#define SLOTS	1
#include "common.h"

byte children = 1;			/* reserved tables below the root */
bool pending;
byte wc;				/* walk cache: the table that it leads to */
bool mapped = true, unmapped;		/* what the hardware must find */

inline flush() { wc = NONE }

active proctype hardware()
{
end:	do
	:: d_step { is_table(E(ROOT, 0)) -> wc = E(ROOT, 0) }
	:: d_step {
		wc != NONE ->
		use(wc);
		assert(!mapped || is_leaf(E(wc, 0)));
		assert(!unmapped || E(wc, 0) == NONE)
	   }
	od
}

/* of the whole slot */
inline unmap()
{
	mapped = false;
	rcu_lock();
	load(ROOT, 0, t);
	assert(is_table(t));		/* with its page it is not swept */
	mark(t);
#ifdef MUTANT_UNMAP_FLUSHES_FIRST
	flush();
#endif
#ifdef MUTANT_PARK_DECIDED_BEFORE_LOCK
	ok = (children > 0);
	lock(ROOT);
#else
	lock(ROOT);
	ok = (children > 0);
#endif
	load(ROOT, 0, e);
	assert(e == t);
	store(ROOT, 0, NONE);
	if
	:: ok -> PARKED(ROOT, 0) = t
	:: else
	fi;
	unlock(ROOT);
	if
	:: !ok -> collect(list, t)
	:: else
	fi;
	rcu_unlock();
#ifdef MUTANT_UNMAP_FREES_BEFORE_FLUSH
	retire(list);
#endif
#ifndef MUTANT_UNMAP_FLUSHES_FIRST
#ifndef MUTANT_UNMAP_DOES_NOT_FLUSH
	flush();
#endif
#endif
	retire(list);
	unmapped = true
}

inline map()
{
	unmapped = false;
	do
	:: rcu_lock();
	   load(ROOT, 0, t);
	   if
	   :: t == NONE ->
		lock(ROOT);
		load(ROOT, 0, t);
		assert(t == NONE);
		d_step { t = PARKED(ROOT, 0); PARKED(ROOT, 0) = NONE };
		if
		:: t != NONE -> store(t, 0, NONE); live[t] = 0
		:: else -> t = fresh; fresh = NONE
		fi;
		if
		:: t != NONE ->
			if
			:: pending -> flush()
			:: else
			fi;
			cmpxchg(ROOT, 0, NONE, t, e);
			assert(e == NONE)
		:: else
		fi;
		unlock(ROOT)
	   :: else
	   fi;
	   if
	   :: t == NONE -> rcu_unlock(); alloc(fresh)
	   :: else ->
		add(t, 1);
		if
		:: ok -> store(t, 0, LEAF); rcu_unlock(); break
		:: else -> rcu_unlock(); lock(ROOT); unlock(ROOT)
		fi
	   fi
	od;
	mapped = true
}

proctype user(byte me)
{
	byte t, e, fresh;
	int list;
	bool holding, ok;

	unmap();
	map();
	unmap();
	if
	:: fresh != NONE -> collect(list, fresh); retire(list)
	:: else
	fi;
	done++
}

/* unreserve the slot */
proctype unreserve(byte me)
{
	byte t;
	int list;
	bool holding, ok;

	lock(ROOT);
	assert(is_table(E(ROOT, 0)) || PARKED(ROOT, 0));
	children--;
	unlock(ROOT);
	pending = true;
	rcu_lock();
	lock(ROOT);
	d_step { t = PARKED(ROOT, 0); PARKED(ROOT, 0) = NONE };
	unlock(ROOT);
	if
	:: t != NONE -> collect(list, t)
	:: else
	fi;
#ifdef MUTANT_NO_FLUSH_FOR_PARKED
	retire(list);
#endif
	lock(ROOT);
	load(ROOT, 0, t);
	if
	:: t != NONE ->
		try_mark(t);
		if
		:: ok -> store(ROOT, 0, NONE); collect(list, t)
		:: else
		fi
	:: else
	fi;
	unlock(ROOT);
	rcu_unlock();
#ifdef MUTANT_SWEEP_FREES_BEFORE_FLUSH
	retire(list);
	flush();
#endif
	if
	:: list -> flush()
	:: else
	fi;
	pending = false;
	retire(list);
	done++
}

init
{
	atomic {
		allocated = 2;
		E(ROOT, 0) = 2;
		E(2, 0) = LEAF;
		live[2] = 1;
		run user(1);
		run unreserve(2)
	};
	atomic {
		done == 2;
		assert(!PARKED(ROOT, 0));	/* nothing is reserved */
		nothing_lost()
	}
}
