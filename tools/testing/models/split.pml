/* SPDX-License-Identifier: GPL-2.0 */
/*
 * split.pml: a block is split while reserve goes down below it.
 *
 * Part	an unmap of half a block takes the parked table, or a fresh one, fills
 *	it, unmarks it and puts it in the block's place, and again when the
 *	hardware has changed the block; reserve links or parks a table in a slot
 *	of it meanwhile, as soon as it is not marked.
 *
 * Actors	the unmap; one that reserves pages in either half; the hardware, which
 *	sets the block's dirty bit, twice.
 *
 * Asserted	what reserve brought is linked or parked in the end, once; live is right;
 *	the other half stays mapped, and no dirty bit is lost; no deadlock.
 *
 * Left out	the sweep, flushes, read sections.
 *
 * Three levels: the root with one slot, C with two, D.
 */
#define TABLES	6
#define SLOTS	2
#include "common.h"

byte count[TABLES + 1];
byte dirty;				/* how often it was set: LEAF + dirty */

/*
 * A parked table's entries are old ones, so all of them are cleared first.  This
 * is only for a marked table: the retry writes what the block translates, no empty
 * entry, and leaves live alone.
 */
inline fill(C, B)
{
	store(C, 0, NONE);
	store(C, 1, NONE);
	store(C, 1, B)
}

inline unmark(C) { d_step { use(C); live[C] = 1 } }

/* of the half that slot 0 of C translates */
proctype unmap(byte me)
{
	byte c, e, was, fresh;
	bool holding, ok;
	int list;

	do
	:: lock(ROOT);
	   load(ROOT, 0, e);
	   assert(is_leaf(e));
	   d_step {
		c = PARKED(ROOT, 0);
		PARKED(ROOT, 0) = NONE;
		if
		:: c == NONE -> c = fresh; fresh = NONE
		:: else
		fi
	   };
	   if
	   :: c != NONE -> break
	   :: else -> unlock(ROOT); alloc(fresh)
	   fi
	od;
#ifdef MUTANT_UNMARK_BEFORE_FILL
	unmark(c);
	fill(c, e);
#else
	fill(c, e);
	unmark(c);
#endif
	do
	:: cmpxchg(ROOT, 0, e, c, was);
	   if
	   :: was == e -> break
	   :: else ->
		e = was;
#ifdef MUTANT_RETRY_FILLS_AS_AT_FIRST
		fill(c, e);
#else
		store(c, 1, e);
#endif
#ifdef MUTANT_RETRY_SETS_LIVE_AGAIN
		unmark(c);
#endif
	   fi
	od;
	unlock(ROOT);
	if
	:: fresh != NONE -> collect(list, fresh); retire(list)
	:: else
	fi;
	done++
}

inline find_or_bring(P, S, T)
{
	d_step { use(P); T = (is_table(E(P, S)) -> E(P, S) : PARKED(P, S)) };
	if
	:: T == NONE ->
		alloc(T);
		load(P, S, e);
		if
		:: e == NONE ->
			add(P, 1);
			if
			:: ok ->
				cmpxchg(P, S, NONE, T, e);
				if
				:: e != NONE -> sub(P, 1)
				:: else
				fi
			:: else -> e = LEAF
			fi
		:: else
		fi;
		if
		:: e != NONE ->
			mark(T);
			d_step { assert(!PARKED(P, S)); PARKED(P, S) = T }
		:: else
		fi
	:: else
	fi
}

proctype reserve(byte slot)
{
	byte c, d, e;
	bool holding, ok;

	lock(ROOT);
	find_or_bring(ROOT, 0, c);
	count[ROOT]++;
	unlock(ROOT);
	lock(c);
	find_or_bring(c, slot, d);
	count[c]++;
	unlock(c);
	done++
}

proctype hardware()
{
	do
	:: dirty < 2 ->
		atomic {
			if
			:: is_leaf(E(ROOT, 0)) ->
				E(ROOT, 0) = E(ROOT, 0) + 1;
				dirty++
			:: else -> break
			fi
		}
	:: else -> break
	od;
	done++
}

init
{
	byte c;

	atomic {
		E(ROOT, 0) = LEAF;
		if
		:: true
		:: true ->		/* parked since an unmap, entries and all */
			allocated = 2;
			PARKED(ROOT, 0) = 2;
			count[ROOT] = 1;
			live[2] = MARKED;
			if
			:: true -> E(2, 0) = LEAF; E(2, 1) = LEAF
			:: true
			fi
		fi;
		run unmap(1);
		run hardware();
		if
		:: true -> run reserve(0)
		:: true -> run reserve(1)
		fi
	};
	atomic {
		done == 3;
		c = E(ROOT, 0);
		assert(is_table(c));
		assert(E(c, 1) == LEAF + dirty);
		assert(!is_leaf(E(c, 0)));
		nothing_lost()
	}
}
