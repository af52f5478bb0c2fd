/* SPDX-License-Identifier: GPL-2.0 */
/*
 * subtree.pml: a table is unlinked with its child, while reserve and the sweep
 * of unreserve are beneath it.
 *
 * Part	a map or unmap of what a table with a child covers marks it from the top,
 *	parks the child in it, and unlinks it, which parks it or lets it leave
 *	with what is parked in it; reserve counts, links and parks on its way
 *	down; the sweep frees on its way; who takes a parked table back clears
 *	its entries, then unmarks it, then links it.
 *
 * Actors	one that maps a page, a small block or a large one, and unmaps it by the
 *	small or the large size; one that reserves pages there and unreserves
 *	them.  One of the two does it twice, or there is a reservation for small
 *	blocks all the time.
 *
 * Asserted	from reserve to unreserve C and D are linked or parked, whenever nobody
 *	has a parking lock, and map allocates nothing; where nothing is reserved
 *	nothing stays parked; what is parked is marked; what is mapped stays;
 *	nothing is leaked, freed twice or looked at when freed; no deadlock.
 *
 * Left out	the hardware and flushes; the mutex: there is one that reserves; more
 *	than one slot, and neighbours.
 *
 * Three levels: the root, C in its slot, D in C's slot, a page in D's.
 */
#define TABLES	15
#define SLOTS	1
#include "common.h"

byte count[TABLES + 1];			/* reserved children, or entries of D */
bool left[TABLES + 1];			/* what was parked in it has left, too */
bool coarse;				/* small blocks are reserved there, always */
bool reserved;				/* reserve has returned */
bool promised;				/* ... before this map, and still holds */

#define linked_or_parked(t)	(is_table(E(t, 0)) -> E(t, 0) : PARKED(t, 0))
#define one_for(t)		(is_table(E(t, 0)) != (PARKED(t, 0) != NONE))

active proctype monitor()
{
	byte c;
end:	do
	:: atomic {
		reserved && !locked[ROOT] ->
		assert(one_for(ROOT));
		c = linked_or_parked(ROOT);
		use(c);
		if
		:: !locked[c] ->
			assert(one_for(c));
			use(linked_or_parked(c))
		:: else
		fi;
		c = 0
	   }
	od
}

/* park T in P */
inline park(P, T)
{
	d_step {
		use(P);
		use(T);
		assert(live[T] < 0);
		assert(!PARKED(P, 0));
		PARKED(P, 0) = T
	}
}

/* take what is parked in P, if anything */
inline take(P, T)
{
	d_step { use(P); T = PARKED(P, 0); PARKED(P, 0) = NONE }
}

/* table T leaves with what is parked in it; x is scratch */
inline collect_all(T)
{
	collect(list, T);
	lock(T);
	take(T, x);
	left[T] = true;
	unlock(T);
	if
	:: x != NONE -> collect(list, x)
	:: else
	fi
}

inline park_children(T)
{
#ifdef MUTANT_MARK_WITHOUT_LOCK
	mark(T);
#else
#ifndef MUTANT_MARK_LAST
	lock(T);
	mark(T);
	unlock(T);
#endif
#endif
	load(T, 0, x);
	if
	:: is_table(x) -> mark(x)
	:: else
	fi;
	lock(T);
#ifdef MUTANT_MARK_LAST
	mark(T);
#endif
	load(T, 0, x);
	if
	:: is_table(x) -> store(T, 0, NONE); park(T, x)
	:: else
	fi;
	unlock(T)
}

/* unlink T from P; cleared says whether it was there */
inline unlink_one(P, T)
{
	lock(P);
	load(P, 0, x);
	cleared = (x == T);
	leaving = false;
	if
	:: cleared ->
		store(P, 0, NONE);
		if
		:: count[P] -> park(P, T)
		:: else -> leaving = true
		fi
	:: else
	fi;
	unlock(P);
	if
	:: leaving -> collect_all(T)
	:: else
	fi
}

/* d from c */
inline unlink_small()
{
	mark(d);
	unlink_one(c, d);
	retire(list)
}

/* c with d from the root */
inline unlink_large()
{
#ifdef MUTANT_UNLINK_BEFORE_CHILDREN
	mark(c);
	unlink_one(ROOT, c);
	park_children(c);
#else
	park_children(c);
	unlink_one(ROOT, c);
#endif
	retire(list)
}

/* the slot of P is empty: link what is parked there, or a fresh table */
inline bring(P, T)
{
	lock(P);
	add(P, 1);
	if
	:: !ok -> res = RESTART
	:: else ->
		load(P, 0, T);
		if
		:: T != NONE -> sub(P, 1)
		:: else ->
			take(P, T);
			if
			:: T == NONE && fresh == NONE -> sub(P, 1); res = NEED
			:: T == NONE && fresh != NONE -> T = fresh; fresh = NONE
			:: T != NONE ->
#ifdef MUTANT_UNMARK_BEFORE_CLEAR
				unmark(T);
				store(T, 0, NONE)
#else
				store(T, 0, NONE);
				unmark(T)
#endif
			fi;
			if
			:: T != NONE -> cmpxchg(P, 0, NONE, T, x); assert(x == NONE)
			:: else
			fi
		fi
	fi;
	unlock(P)
}

inline unmark(T) { d_step { use(T); live[T] = 0 } }

mtype = { AGAIN, RESTART, NEED, DONE };	/* what became of a walk */

inline settle()
{
	rcu_lock();
	lock(ROOT);
	unlock(ROOT);
	load(ROOT, 0, c);
	if
	:: is_table(c) -> lock(c); unlock(c)
	:: else
	fi;
	rcu_unlock()
}

inline map_large()
{
	rcu_lock();
	do
	:: cmpxchg(ROOT, 0, NONE, LEAF, c);
	   if
	   :: c == NONE -> break
	   :: else -> assert(is_table(c)); unlink_large()
	   fi
	od;
	rcu_unlock()
}

/* a page, or a small block */
inline map_below_c()
{
	res = AGAIN;
	do
	:: res == DONE -> break
	:: res == RESTART -> settle(); res = AGAIN
	:: res == NEED ->
		assert(!promised && !(coarse && size == SMALL));
		alloc(fresh);
		res = AGAIN
	:: res == AGAIN ->
		rcu_lock();
		load(ROOT, 0, c);
		if
		:: c == NONE -> bring(ROOT, c)
		:: else
		fi;
		if
		:: res == AGAIN && size == PAGE ->
			load(c, 0, d);
			if
			:: d == NONE -> bring(c, d)
			:: else
			fi;
			if
			:: res == AGAIN ->
				add(d, 1);
				if
				:: ok -> store(d, 0, LEAF); res = DONE
				:: else -> res = RESTART
				fi
			:: else
			fi
		:: res == AGAIN && size == SMALL ->
			add(c, 1);
			if
			:: ok ->
				do
				:: cmpxchg(c, 0, NONE, LEAF, d);
				   if
				   :: d == NONE -> break
				   :: else ->
					assert(is_table(d));
					unlink_small();
					if
					:: cleared -> sub(c, 1)
					:: else
					fi
				   fi
				od;
				res = DONE
			:: else -> res = RESTART
			fi
		:: else
		fi;
		rcu_unlock()
	od
}

/* by the large size, or what is mapped in c by the small one */
inline unmap()
{
	rcu_lock();
	load(ROOT, 0, c);
	if
	:: size == LARGE -> assert(c == LEAF); store(ROOT, 0, NONE)
	:: else ->
		assert(is_table(c));
		load(c, 0, d);
		if
		:: size == SMALL -> assert(d == LEAF)
		:: else -> assert(is_table(d)); assert(E(d, 0) == LEAF)
		fi;
		if
		:: true -> unlink_large()
		:: true ->
			if
			:: size == SMALL -> store(c, 0, NONE); cleared = true
			:: else -> unlink_small(); assert(cleared)
			fi;
			sub(c, 1)
		fi
	fi;
	rcu_unlock()
}

mtype = { PAGE, SMALL, LARGE };

proctype user(byte me, rounds)
{
	byte c, d, x, fresh;
	mtype res, size;
	int list;
	bool holding, ok, cleared, leaving;

	do
	:: rounds > 0 ->
		rounds--;
		atomic {
			promised = reserved;
			if
			:: true -> size = PAGE
			:: true -> size = SMALL
			:: true -> size = LARGE
			fi
		};
		if
		:: size == LARGE -> map_large()
		:: else -> map_below_c()
		fi;
		if
		:: fresh != NONE -> collect(list, fresh); retire(list); fresh = NONE
		:: else
		fi;
		unmap();
		d_step {
			c = 0; d = 0; x = 0; ok = 0; size = 0; res = 0;
			cleared = 0; leaving = 0; promised = 0
		}
	:: else -> break
	od;
	done++
}

/* under the parking lock of P */
inline find(P, T)
{
	d_step { use(P); T = linked_or_parked(P) }
}

/* T, which was allocated for the slot of P */
inline link_or_park(P, T)
{
	load(P, 0, x);
	if
	:: x == NONE ->
#ifdef MUTANT_RESERVE_LINKS_IN_MARKED
		ok = true;
		sub(P, -1);
#else
		add(P, 1);
#endif
		if
		:: ok ->
			cmpxchg(P, 0, NONE, T, x);
			if
			:: x != NONE -> sub(P, 1)
			:: else
			fi
		:: else -> x = LEAF
		fi
	:: else
	fi;
	if
	:: x != NONE -> mark(T); park(P, T)
	:: else
	fi
}

/* find one for the slot of P, or bring it from the stock */
inline find_or_bring(P, T)
{
	find(P, T);
	if
	:: T == NONE && stock[0] != NONE ->
		d_step { T = stock[0]; stock[0] = stock[1]; stock[1] = NONE };
		link_or_park(P, T)
	:: else
	fi
}

/* T gets its first count, or has lost its last: under the parking lock of P */
inline count_child(P, T)
{
	if
	:: count[T] == 0 -> count[P]++
	:: else
	fi
}

inline uncount_child(P, T)
{
	if
	:: count[T] == 0 -> assert(count[P]); count[P]--
	:: else
	fi
}

inline drop_stock()
{
	if
	:: stock[0] -> collect(list, stock[0]); stock[0] = NONE
	:: else
	fi;
	if
	:: stock[1] -> collect(list, stock[1]); stock[1] = NONE
	:: else
	fi;
	retire(list)
}

/*
 * From the top: C is counted in the root before D is looked for.  It starts with
 * a table in stock for each level, whatever was there when it counted what is
 * missing.  So it is never stuck half-way, with C counted, and has to undo that:
 * C, parked meanwhile, would stay where nothing is reserved; and with a mapper
 * of large blocks each could undo what the other has done, for ever.
 */
inline reserve()
{
#ifdef MUTANT_STOCK_RUNS_OUT_HALF_WAY
	alloc(stock[0]);
#else
	atomic { alloc(stock[0]); alloc(stock[1]) };
#endif
	lock(ROOT);
	find_or_bring(ROOT, c);
	assert(c != NONE);
#ifdef MUTANT_RESERVE_COUNTS_AFTER_LOCK
	unlock(ROOT);
	count_child(ROOT, c);
#else
	count_child(ROOT, c);
	unlock(ROOT);
#endif
	lock(c);
	find_or_bring(c, d);
	if
	:: d != NONE ->
		count_child(c, d);
		unlock(c);
		lock(d);
		count[d]++;
		unlock(d);
		reserved = true
	:: else ->
#ifndef MUTANT_STOCK_RUNS_OUT_HALF_WAY
		assert(false);
#endif
		unlock(c);
		lock(ROOT);
		uncount_child(ROOT, c);
		unlock(ROOT)
	fi;
	drop_stock()
}

/* free child T of P, if nothing is reserved in it */
inline try_free(P, T)
{
	lock(P);
	find(P, x);
	if
	:: x == T && !count[T] ->
		assert(!left[P]);
		load(P, 0, x);
		if
		:: x == T ->
			try_mark(T);
			if
			:: ok ->
				load(T, 0, x);
				assert(x == NONE);
				store(P, 0, NONE);
				sub(P, 1)
			:: else
			fi
		:: else -> ok = true; take(P, x)
		fi
	:: else -> ok = false
	fi;
	unlock(P);
	if
	:: ok -> collect_all(T)
	:: else
	fi
}

/* what is parked in P, if nothing is reserved in P */
inline drop_parked(P)
{
	lock(P);
	d = NONE;
	if
	:: !count[P] -> take(P, d); assert(d == NONE || !left[P])
	:: else
	fi;
	unlock(P);
	if
	:: d != NONE -> collect_all(d)
	:: else
	fi
}

inline sweep()
{
	rcu_lock();
	drop_parked(ROOT);
	lock(ROOT);
	find(ROOT, c);
	unlock(ROOT);
	if
	:: c != NONE ->
		drop_parked(c);
		lock(c);
		find(c, d);
		unlock(c);
		if
		:: d != NONE -> try_free(c, d)
		:: else
		fi;
		try_free(ROOT, c)
	:: else
	fi;
	rcu_unlock();
	retire(list)
}

/* counts from the bottom, then the sweep */
inline unreserve()
{
	d_step { reserved = false; promised = false };
#ifdef MUTANT_UNRESERVE_LOOKS_WITHOUT_LOCK
	find(ROOT, c);
	find(c, d);
#else
	lock(ROOT);
	find(ROOT, c);
	unlock(ROOT);
	lock(c);
	find(c, d);
	unlock(c);
#endif
	lock(d);
	assert(count[d]);
	count[d]--;
	unlock(d);
	lock(c);
	uncount_child(c, d);
	unlock(c);
	lock(ROOT);
	uncount_child(ROOT, c);
	unlock(ROOT);
	sweep()
}

proctype reserver(byte me, rounds)
{
	byte c, d, x;
	byte stock[2];
	int list;
	bool holding, ok;

	do
	:: rounds > 0 ->
		rounds--;
		reserve();
		d_step { c = 0; d = 0; x = 0; ok = 0 };
		if
		:: reserved -> unreserve()
		:: else
		fi;
		d_step { c = 0; d = 0; x = 0; ok = 0 }
	:: else -> break
	od;
	done++
}

inline nothing_parked()
{
	d_step {
		for (_i : 1 .. allocated) {
			assert(count[_i] == (coarse && _i <= 2));
			assert(retired[_i] || !PARKED(_i, 0) || count[_i])
		};
		_i = 0
	}
}

init
{
	atomic {
		if
		:: true -> run user(1, 2); run reserver(2, 1)
		:: true -> run user(1, 1); run reserver(2, 2)
		:: true ->
			coarse = true;
			allocated = 2;
			E(ROOT, 0) = 2;
			count[ROOT] = 1;
			count[2] = 1;
			run user(1, 1);
			run reserver(2, 1)
		fi
	};
	atomic { done == 2 -> nothing_parked(); nothing_lost() }
}
