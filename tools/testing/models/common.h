/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the models share: page tables of one or two slots, their counts, parking
 * locks, read sections and grace periods.  A model defines TABLES (how many there
 * can be; table 1 is the root) and SLOTS before it includes this.
 *
 * Every step that the hardware or another CPU can see is one statement here, in
 * the order of the code: memory is sequentially consistent.  What weaker ordering
 * needs is in the *.litmus files.
 *
 * A table is freed as soon as it may be: when it was retired (call_rcu) and the
 * read sections of that moment are over.  Pages are not used a second time, so
 * any later look at one is found.
 *
 * Each process that calls these has me (its bit, for read sections), holding
 * (whether it has a parking lock: they are hashed, so nobody may take a second
 * one) and ok.  Arguments of inlines are capitals.
 */
#define ROOT	1
#define NONE	0
#define LEAF	100		/* and above: entries that translate */
#define MARKED	(-100)		/* any negative value is marked */

#define is_table(e)	((e) != NONE && (e) < LEAF)
#define is_leaf(e)	((e) >= LEAF)
#define E(t, s)		entry[(t) * SLOTS + (s)]
#define PARKED(t, s)	parked[(t) * SLOTS + (s)]
#define BIT(t)		(1 << (t))

byte entry[(TABLES + 1) * SLOTS];
byte parked[(TABLES + 1) * SLOTS];
short live[TABLES + 1];
bool locked[TABLES + 1];
bool retired[TABLES + 1];
byte gp[TABLES + 1];		/* the read sections that keep a retired table */
byte inside;			/* who is in a read section */
byte allocated = ROOT;		/* tables up to this one have been allocated */
int collected;			/* a bit for each table that was ever to be freed */
byte done;			/* how many processes have ended */
byte seen[TABLES + 1];
byte _i, _j, _n;

#define freed(t)	(retired[t] && gp[t] == 0)
#define use(t)		assert((t) != NONE && !freed(t))

inline lock(T)
{
	atomic { !locked[T] -> assert(!holding); locked[T] = true; holding = true }
}

inline unlock(T)
{
	d_step { assert(locked[T]); locked[T] = false; holding = false }
}

inline rcu_lock()
{
	d_step { assert(!(inside & me)); inside = inside | me }
}

inline rcu_unlock()
{
	d_step {
		assert(inside & me);
		inside = inside & (255 - me);
		for (_i : 1 .. TABLES) {
			gp[_i] = gp[_i] & (255 - me)
		};
		_i = 0
	}
}

inline alloc(T)
{
	d_step { allocated++; assert(allocated <= TABLES); T = allocated }
}

/* collect: put on a list of what is to be freed, which is a bit per table */
inline collect(LIST, T)
{
	d_step {
		use(T);
		assert(!(collected & BIT(T)));
		collected = collected | BIT(T);
		LIST = LIST | BIT(T)
	}
}

/* retire: call_rcu() for each of them */
inline retire(LIST)
{
	d_step {
		for (_i : 1 .. TABLES) {
			if
			:: LIST & BIT(_i) ->
				assert(!retired[_i]);
				retired[_i] = true;
				gp[_i] = inside
			:: else
			fi
		};
		_i = 0;
		LIST = 0
	}
}

inline load(T, S, V)
{
	d_step { use(T); V = E(T, S) }
}

inline store(T, S, V)
{
	d_step { use(T); E(T, S) = V }
}

/* cmpxchg: WAS is what the entry was; if that was OLD, it is NEW now */
inline cmpxchg(T, S, OLD, NEW, WAS)
{
	d_step {
		use(T);
		WAS = E(T, S);
		if
		:: WAS == OLD -> E(T, S) = NEW
		:: else
		fi
	}
}

/* add: ok unless the table is marked, which the root never is */
inline add(T, N)
{
	d_step {
		use(T);
		ok = (live[T] >= 0);
		if
		:: ok && T != ROOT -> live[T] = live[T] + (N)
		:: else
		fi
	}
}

inline sub(T, N)
{
	d_step {
		use(T);
		if
		:: T != ROOT -> live[T] = live[T] - (N)
		:: else
		fi
	}
}

/* try_mark: ok if live was 0, and it is MARKED now */
inline try_mark(T)
{
	d_step {
		use(T);
		ok = (live[T] == 0);
		if
		:: ok -> live[T] = MARKED
		:: else
		fi
	}
}

inline mark(T)
{
	d_step { use(T); live[T] = MARKED }
}

/*
 * nothing_lost: when all work is over, every table that was ever allocated is
 * linked or parked, once, or was retired; no slot has both; what is parked is
 * marked, and live of the others is the number of their entries.
 */
inline nothing_lost()
{
	d_step {
		assert(inside == 0);
		for (_i : 1 .. allocated) {
			assert(!locked[_i]);
			if
			:: !retired[_i] ->
				_n = 0;
				for (_j : 0 .. SLOTS - 1) {
					if
					:: is_table(E(_i, _j)) ->
						assert(!PARKED(_i, _j));
						seen[E(_i, _j)]++
					:: else
					fi;
					if
					:: PARKED(_i, _j) ->
						assert(live[PARKED(_i, _j)] < 0);
						seen[PARKED(_i, _j)]++
					:: else
					fi;
					if
					:: E(_i, _j) != NONE -> _n++
					:: else
					fi
				};
				assert(_i == ROOT || live[_i] == _n || live[_i] < 0)
			:: else
			fi
		};
		for (_i : 2 .. allocated) {
			assert(seen[_i] == (retired[_i] -> 0 : 1));
			assert(retired[_i] == ((collected & BIT(_i)) != 0))
		};
		_i = 0;
		_j = 0;
		_n = 0
	}
}
