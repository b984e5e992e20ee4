/* SPDX-License-Identifier: Apache-2.0 */
/* The barrier-free protocol of dispatch and combine. One process per rank, one word per edge and source; every access
 * to rows is an interval [begin, end]. docs/protocol.md describes it; check.py runs scenarios, mutants and traps.
 * By hand: spin -DOPS=3 -DSCRIPT=DISPATCH,PUSH,DISPATCH -a protocol.pml && gcc -DSAFETY pan.c && ./a.out -m50000
 *
 *   W            ranks, 2 to 4              PLACES  buffer sets, 1 or 2 (operations on the second have names with _2)
 *   SCRIPT, OPS  the calls of every rank and their number; with ANY instead of SCRIPT, every legal script of OPS calls
 *   LATE         each word arrives by itself, in any order and at any time after it was written
 *   LOSS         one of the first VICTIMS ranks stops for ever, at any step
 *   ABORT        rank 0 is aborted from outside, at any time       SLOW  a wait of rank 0 ends too early
 *   WITHOUT      mutant: no rank waits for this edge (poison: no rank sends it)
 *   EARLY        mutant: ranks signal this edge before the accesses that must precede it
 *   PASS_ON, SECOND_LOOK = false, FREE_AT_CLOSE = true, STAGED_PULL, SIGNALS_AFTER_FAILURE
 *                traps: each removes one rule of the protocol */

#ifndef W
#define W 2
#endif
#ifndef PLACES
#define PLACES 1
#endif
#ifndef OPS
#define OPS 4
#define SCRIPT DISPATCH, PUSH, DISPATCH, PULL
#endif
#ifndef VICTIMS
#define VICTIMS W
#endif
#ifndef WITHOUT
#define WITHOUT 9
#endif
#ifndef EARLY
#define EARLY 9
#endif
#ifndef PASS_ON
#define PASS_ON true
#endif
#ifndef SECOND_LOOK
#define SECOND_LOOK true
#endif
#ifndef FREE_AT_CLOSE
#define FREE_AT_CLOSE false
#endif

#define DISPATCH 1 /* a new routing, so new slots */
#define REPLAY 2   /* dispatch along the kept plan: another payload to the slots of that plan */
#define PUSH 3     /* combine: the rows are written into the combine slots of their home rank, which sums them */
#define PULL 4     /* combine: the home rank reads the rows where the expert step left them */
#define FUSED 5    /* combine: the caller's kernel has written the combine slots */
#define BOTH 6     /* combine: rows are pulled, a second result (their weights) is pushed */
#define DISPATCH_2 9
#define REPLAY_2 10
#define PUSH_2 11
#define PULL_2 12
#define FUSED_2 13
#define BOTH_2 14
#define PLACE(call) ((call) >> 3)
#define KIND(call) ((call) & 7)
#define IS_DISPATCH(call) (KIND(call) <= REPLAY)
#define PULLS(call) (KIND(call) == PULL || KIND(call) == BOTH)
#define PUSHES(call) (KIND(call) == PUSH || KIND(call) == BOTH)

#define BIT(rank) (1 << (rank))
#define ALL ((1 << W) - 1)
#if W == 2
#define EVERY(f) (f(0) && f(1))
#elif W == 3
#define EVERY(f) (f(0) && f(1) && f(2))
#else
#define EVERY(f) (f(0) && f(1) && f(2) && f(3))
#endif

/* ---- memory that peers access ------------------------------------------------------------------------------------ */
/* The edges: four with a word per source on each buffer set, and poison with a word per source and rank. */
#define counts 0
#define done 1
#define enter 2
#define ready 3
#define poison 4
#define LINK(to, from) ((p * W + (to)) * W + (from)) /* on buffer set p, at rank `to`, written by rank `from` */
#define OF(edge, link) [(link) * 4 + (edge)]
byte word[4 * PLACES * W * W];      /* values that the reader sees */
#ifdef LATE
byte sent[4 * PLACES * W * W];      /* values that the writer stored */
#define SENT sent
#else
#define SENT word
#endif
bit poison_seen[W];                 /* per rank: it sees the poison of some rank */
byte poison_sent[W];                /* per rank: bits of ranks whose poison has arrived or is on its way */

typedef Rows { byte tag[W]; byte readers };
Rows rows[2 * PLACES * W];
#define received 0 /* written by all ranks in dispatch; read by the expert step, by push, by peers that pull weights */
#define landing 1  /* written by all ranks in push and fused; read by the owner's reduction */
#define ROWS(kind, rank) rows[((kind) * PLACES + p) * W + (rank)]
typedef Output { byte tag; byte readers };
Output output[PLACES * W];          /* zero-copy rows: written by the owner's expert step, read by peers that pull */
#define OUTPUT(rank) output[p * W + (rank)]

/* A tag has epoch and rank of the writer, so the model detects rows that are stale, torn or misplaced. In the library
 * slots follow from counts, so a source overwrites old rows of others. Here its slot changes with every routing. */
#define TAG(epoch, rank) ((epoch) * W + (rank) + 1)
#define TORN 200
#ifdef STAGED_PULL
#define PULLED_EPOCH epoch[p]
#else
#define PULLED_EPOCH dispatched[p]
#endif
#define JUNK(rank) (240 + (rank)) /* written by a kernel of the caller on a rank that has failed */
#define IS_JUNK(tag) ((tag) >= 240)
#define SLOT(rank, routing) (((rank) + (routing)) % W)

byte mapped[W];                     /* per owner: bits of ranks that hold a reference on its memory */
#define READS(what, opens) what.readers = (opens -> what.readers | BIT(me) : what.readers & ~BIT(me))
#define TOUCH(rank) assert(mapped[rank] & BIT(me) /* memory outlives its last user */)

/* ---- the run ----------------------------------------------------------------------------------------------------- */
#ifdef ANY
byte script[OPS];
#else
hidden byte script[OPS] = { SCRIPT };
#endif
byte ended, failed;                 /* bits of ranks */
bit lost;
byte victim, victim_op;             /* the rank that is lost, and the operation it was in */
#define SOUND (!(failed & BIT(me)))

/* ---- signals ----------------------------------------------------------------------------------------------------- */
/* Writes one word to every rank. With LOSS these are separate steps, because a rank may be lost after each. */
inline tell_one(edge, epoch_told) {
  TOUCH(to);
  SENT OF(edge, LINK(to, me)) = epoch_told;
  if :: to == me -> word OF(edge, LINK(to, me)) = epoch_told :: else fi
}
inline tell(edge, epoch_told) {
#if defined(LOSS) && !defined(LATE)
  to = 0;
  do
  :: atomic { to < W - 1 -> tell_one(edge, epoch_told); to++ }
  :: atomic { to == W - 1 -> tell_one(edge, epoch_told); to = 0; break }
  od
#else
  atomic { for (to : 0 .. W - 1) { tell_one(edge, epoch_told) } to = 0 }
#endif
}

/* The conditions of the waits. Epochs only grow. Counts must be equal: a count belongs to one dispatch. */
#define COUNTS_HERE(from) (word OF(counts, LINK(me, from)) == epoch[p])
#define DONE_HERE(from) (word OF(done, LINK(me, from)) >= epoch[p])
#define ENTER_HERE(from) (word OF(enter, LINK(me, from)) >= epoch[p])
#define READY_HERE(from) (word OF(ready, LINK(me, from)) >= epoch[p])

/* When the deadline of a wait may pass: a word is missing and its writer is lost; in SLOW, any word is missing. */
#define LOST(rank) (lost && victim == (rank))
#if defined(LOSS)
#define DEADLINE(f) (lost && ((LOST(0) && !f(0)) || (LOST(1) && !f(1)) || (LOST(2) && !f(2))))
#elif defined(SLOW)
#define DEADLINE(f) (me == 0 && !EVERY(f))
#else
#define DEADLINE(f) false
#endif

/* The rank fails. Whatever the cause, it poisons every rank before its kernel ends. */
inline fail(is_origin) {
  failed = failed | BIT(me);
  if
  :: WITHOUT != poison && (is_origin || PASS_ON) ->
     for (to : 0 .. W - 1) { TOUCH(to); poison_sent[to] = poison_sent[to] | BIT(me) } /* edge poison: signal */
     to = 0
  :: else
  fi
}

/* Waits for all ranks, this one included. Ends by the signals, by poison or by the deadline. */
#define AWAIT(edge, f) await(EVERY(f) || WITHOUT == edge, DEADLINE(f))
inline await(here, deadline) {
  if
  :: here
  :: poison_seen[me] -> fail(false)                                  /* edge poison: wait */
  :: deadline -> fail(true)
  fi
}

#ifdef LATE
inline arrive(edge) {
  atomic {
    word OF(edge, link) != sent OF(edge, link) -> word OF(edge, link) = sent OF(edge, link);
    assert(mapped[(link / W) % W] /* no store lands in freed memory */)
  }
}
proctype wire(byte link) {
end:
  do :: arrive(counts) :: arrive(done) :: arrive(enter) :: arrive(ready) od
}
#endif

proctype poison_wire(byte to) {
end:
  atomic { poison_sent[to] -> assert(mapped[to] /* no store lands in freed memory */); poison_seen[to] = true }
}

/* ---- accesses to rows: the two ends of an interval, for all rows that a phase touches ---------------------------- */
inline begin_writing(kind, routed) {
  for (to : 0 .. W - 1) {
    TOUCH(to);
    assert(ROWS(kind, to).readers == 0 /* no row is overwritten before its last reader */);
    assert(ROWS(kind, to).tag[SLOT(me, routed)] != TORN /* no row has two writers */);
    ROWS(kind, to).tag[SLOT(me, routed)] = TORN
  }
  to = 0
}
inline end_writing(kind, routed) {
  for (to : 0 .. W - 1) {
    TOUCH(to);
    if
    :: ROWS(kind, to).tag[SLOT(me, routed)] == TORN -> ROWS(kind, to).tag[SLOT(me, routed)] = TAG(epoch[p], me)
    :: else -> assert(IS_JUNK(ROWS(kind, to).tag[SLOT(me, routed)]) /* no row has two writers */)
    fi
  }
  to = 0
}
#define RECEIVED_TAG(from) ROWS(received, me).tag[SLOT(from, routing[p])]
inline check_received() {
  for (to : 0 .. W - 1) {
    assert(RECEIVED_TAG(to) == TAG(dispatched[p], to) /* no row is stale, torn or misplaced */)
  }
  to = 0
}
inline begin_reading_received() { check_received(); READS(ROWS(received, me), true) }
inline end_reading_received() { check_received(); READS(ROWS(received, me), false) }

/* Mutants: sends the signal in the step that begins the interval which must precede it. */
inline early(edge, is_due, epoch_told) {
  if
  :: EARLY == edge && is_due -> for (to : 0 .. W - 1) { SENT OF(edge, LINK(to, me)) = epoch_told } to = 0
  :: else
  fi
}
#define NEXT_HERE(is_such) (op + 1 < OPS && PLACE(script[op + 1]) == p && is_such(script[op + 1]))

/* ---- dispatch ---------------------------------------------------------------------------------------------------- */
inline dispatch() {
  dispatched[p] = epoch[p];
  if :: KIND(script[op]) == DISPATCH -> routing[p] = epoch[p] :: else fi;
  tell(counts, epoch[p]);                                            /* edge counts: signal */
  atomic {
    AWAIT(counts, COUNTS_HERE);                                      /* edge counts: wait */
    if :: SOUND -> begin_writing(received, routing[p]) :: else fi;
    early(done, true, epoch[p])
  }
  if
  :: SOUND ->
     atomic {
       end_writing(received, routing[p]);
       assert(EVERY(COUNTS_HERE) || WITHOUT == counts /* the counts stand until their last reader */)
     }
     tell(done, epoch[p]);                                           /* edge done: signal */
     atomic { AWAIT(done, DONE_HERE) }                               /* edge done: wait */
  :: else
  fi;
  if :: SOUND -> expert_step() :: else -> atomic { callers_kernel_after_failure() } fi
}

/* The caller's kernel between dispatch and combine: reads the received rows, writes the zero-copy rows. */
inline expert_step() {
  atomic {
    begin_reading_received();
    assert(OUTPUT(me).readers == 0 /* no row is rewritten under a peer that reads it */);
    OUTPUT(me).tag = TORN;
    early(counts, NEXT_HERE(IS_DISPATCH), epoch[p] + 1)
  }
  atomic {
    end_reading_received();
    assert(OUTPUT(me).readers == 0 /* no row is rewritten under a peer that reads it */);
    OUTPUT(me).tag = TAG(epoch[p], me)
  }
}

/* The caller's kernel is already enqueued, so it also runs after a failure. The library's kernels then do not wait, do
 * not signal and write no row. */
inline callers_kernel_after_failure() {
  if
  :: IS_DISPATCH(script[op]) -> OUTPUT(me).tag = JUNK(me)
  :: KIND(script[op]) == FUSED -> for (to : 0 .. W - 1) { ROWS(landing, to).tag[SLOT(me, epoch[p])] = JUNK(me) } to = 0
  :: else
  fi
}

/* ---- combine ----------------------------------------------------------------------------------------------------- */
inline push() {
  if
  :: epoch[p] > dispatched[p] + 1 ->                                 /* the operation before was a combine too */
     tell(enter, epoch[p]);                                          /* edge enter: signal */
     atomic { AWAIT(enter, ENTER_HERE) }                             /* edge enter: wait */
  :: else
  fi;
  if
  :: SOUND ->
     atomic {
       begin_reading_received();                                     /* the caller may pass the received rows */
       assert(OUTPUT(me).tag == TAG(dispatched[p], me));             /* or the zero-copy rows */
       begin_writing(landing, epoch[p]);
       early(ready, true, epoch[p])
     }
     atomic {
       end_reading_received();
       assert(OUTPUT(me).tag == TAG(dispatched[p], me));
       end_writing(landing, epoch[p])
     }
     reduce()
  :: else
  fi
}

inline pull() {
#ifdef STAGED_PULL /* trap: first copies rows to the buffer that peers read */
  atomic {
    assert(OUTPUT(me).readers == 0 /* no row is rewritten under a peer that reads it */);
    OUTPUT(me).tag = TAG(epoch[p], me)
  }
#endif
  reduce()
}

inline fused() {
  atomic { begin_writing(landing, epoch[p]) }                        /* the caller's kernel */
  atomic { end_writing(landing, epoch[p]) }
  reduce()
}

/* The end of every combine: signals that its rows are in place, waits for those of all ranks, sums them. */
inline reduce() {
  tell(ready, epoch[p]);                                             /* edge ready: signal */
  atomic {
    AWAIT(ready, READY_HERE);                                        /* edge ready: wait */
    if
    :: SOUND ->
       read_home_rows(true);
       early(counts, NEXT_HERE(IS_DISPATCH), epoch[p] + 1);
       early(enter, NEXT_HERE(PUSHES), epoch[p] + 1)
    :: else
    fi
  }
  if :: SOUND -> atomic { read_home_rows(false); second_look() } :: else fi
}
/* The caller's kernels on a failed rank may overwrite rows while a rank without failure reads them. The poison of the
 * failed rank was written before. A reader that checks poison again after its last read therefore finds it. */
inline read_row(seen, expected) {
  if
  :: seen == expected
  :: seen != expected ->
     assert(IS_JUNK(seen) /* no row is stale, torn or misplaced */);
     spoilt = true;
     excused = excused && (poison_seen[me] || (poison_sent[me] & BIT(seen - 240)))
  fi
}
inline read_home_rows(opens) {
  spoilt = false; excused = true;
  if
  :: PULLS(script[op]) ->                                            /* rows and weights, at the ranks that have them */
     for (to : 0 .. W - 1) {
       TOUCH(to);
       read_row(OUTPUT(to).tag, TAG(PULLED_EPOCH, to));
       read_row(ROWS(received, to).tag[SLOT(me, routing[p])], TAG(dispatched[p], me));
       READS(OUTPUT(to), opens);
       READS(ROWS(received, to), opens)
     }
  :: else
  fi;
  if
  :: KIND(script[op]) != PULL ->                                     /* rows in the own combine slots */
     for (to : 0 .. W - 1) { read_row(ROWS(landing, me).tag[SLOT(to, epoch[p])], TAG(epoch[p], to)) }
     READS(ROWS(landing, me), opens)
  :: else
  fi;
  to = 0
}
inline second_look() {
  assert(!spoilt || (excused && SECOND_LOOK) /* no spoilt result without an error */);
  if :: spoilt -> fail(false) :: else fi;                            /* edge poison: wait */
  spoilt = false; excused = false
}

/* ---- a rank ------------------------------------------------------------------------------------------------------ */
/* close is local. References are released when the rank's own kernels have ended and their stores have arrived. */
#ifdef LATE
#define SAME(i) (word OF(counts, i) == sent OF(counts, i) && word OF(done, i) == sent OF(done, i) && \
                 word OF(enter, i) == sent OF(enter, i) && word OF(ready, i) == sent OF(ready, i))
#define LANDED(to) (SAME((to) * W + me) && SAME(((PLACES - 1) * W + (to)) * W + me) && POISON_LANDED(to))
#else
#define LANDED(to) POISON_LANDED(to)
#endif
#define POISON_LANDED(to) (!(poison_sent[to] & BIT(me)) || poison_seen[to])
inline close() {
  EVERY(LANDED);
  for (to : 0 .. W - 1) { mapped[to] = mapped[to] & ~BIT(me) }
  to = 0;
  if :: FREE_AT_CLOSE -> mapped[me] = 0 :: else fi;
  ended = ended | BIT(me)
}

proctype rank(byte me) {
  byte op, p, to;          /* operation, its buffer set, loop over ranks */
  byte epoch[PLACES];      /* number of the operation on each buffer set */
  byte dispatched[PLACES]; /* that of the last dispatch */
  byte routing[PLACES];    /* that of the dispatch whose plan is in use */
  bit spoilt, excused;
  {
    do
    :: atomic { op < OPS && SOUND -> p = PLACE(script[op]); epoch[p]++ }
       if
       :: IS_DISPATCH(script[op]) -> dispatch()
       :: PUSHES(script[op]) -> push()
       :: KIND(script[op]) == PULL -> pull()
       :: KIND(script[op]) == FUSED -> fused()
       fi;
       op++
    :: atomic { op < OPS && !SOUND -> p = PLACE(script[op]); epoch[p]++; callers_kernel_after_failure() }
#ifdef SIGNALS_AFTER_FAILURE
       tell(counts, epoch[p]); tell(done, epoch[p]); tell(ready, epoch[p]);
#endif
       op++
    :: op == OPS -> break
    od;
    atomic { close() }
  }
#ifdef LOSS
  unless {
    /* The lost rank writes no more. Rows that it was writing stay torn. Its memory exists while a peer maps it. */
    atomic {
      LOST(me) && !(ended & BIT(me)) -> victim_op = op;
      for (p : 0 .. PLACES - 1) {
        for (to : 0 .. W - 1) {
          READS(ROWS(received, to), false);
          READS(ROWS(landing, to), false);
          READS(OUTPUT(to), false)
        }
      }
      mapped[me] = mapped[me] & ~BIT(me);
      ended = ended | BIT(me)
    }
  }
#endif
}

#ifdef LOSS
proctype fate() {
end: atomic { !(ended & BIT(victim)) -> lost = true }
}
#endif

#ifdef ABORT
/* abort() of rank 0: poison to all ranks, from the host, at any time. */
#define REACHED (WITHOUT == poison -> 1 : W)
proctype host() {
  byte to;
end:
  atomic {
    !(ended & BIT(0)) ->
    for (to : 0 .. REACHED - 1) { poison_sent[to] = poison_sent[to] | BIT(0) } /* edge poison: signal */
  }
}
#endif

#ifdef ANY
/* Each buffer set starts with a dispatch; a fused combine follows a dispatch directly. */
inline choose_script() {
  byte before[PLACES], q;
  for (i : 0 .. OPS - 1) {
    select(q : 0 .. PLACES - 1);
    if
    :: script[i] = DISPATCH
    :: before[q] -> script[i] = REPLAY
    :: before[q] -> script[i] = PUSH
    :: before[q] -> script[i] = PULL
    :: before[q] -> script[i] = BOTH
    :: before[q] && IS_DISPATCH(before[q]) -> script[i] = FUSED
    fi;
    before[q] = script[i];
    script[i] = script[i] + 8 * q
  }
  before[0] = 0; before[PLACES - 1] = 0; q = 0
}
#endif

/* ---- all ranks, and the conditions at the end -------------------------------------------------------------------- */
#define KNOWS(rank) (LOST(rank) || (failed & BIT(rank)) || poison_seen[rank])
#define POISON_ALL_LANDED(rank) (!poison_sent[rank] || poison_seen[rank])

init {
  byte i;
  atomic {
#ifdef ANY
    choose_script();
#endif
    for (i : 0 .. W - 1) { mapped[i] = ALL; run rank(i); run poison_wire(i) }
#ifdef LATE
    for (i : 0 .. PLACES * W * W - 1) { if :: (i / W) % W != i % W -> run wire(i) :: else fi }
#endif
#ifdef LOSS
    select(victim : 0 .. VICTIMS - 1);
    run fate();
#endif
#ifdef ABORT
    run host();
#endif
    i = 0
  }
  atomic {
    ended == ALL && EVERY(POISON_ALL_LANDED);
    assert(!failed || EVERY(KNOWS) /* whoever polls learns of a failure, even after its last call */);
    /* Every operation needs every rank, so only the loss of a rank in its last operation may go undetected. */
    assert(!lost || victim_op + 1 >= OPS || (failed | BIT(victim)) == ALL /* a lost peer is noticed by all */)
  }
}
