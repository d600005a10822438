/* comm/comm.h
 * The only home of MPI: the world of ranks, the grid stages x shards, exact collectives, activation
 * streams, the control channel, agreement on errors. Moves opaque bytes and integers.
 *
 * All calls of a process come from one thread (the one that called comm_world_open). Waits do not
 * burn the CPU: they poll, then yield, then sleep (comm/wait.c, comm/event.c), so that ranks
 * which share cores do not starve each other.
 *
 * A collective call must be made by all ranks of its group in the same order with matching sizes.
 * The means behind it (shared memory among the ranks of a host, messages to the others) can change
 * without the caller. Their results do not. TRIREME_COMM in the environment:
 * auto  the default: shared memory within a host; between hosts the fastest of our ways and MPI's
 *       own collectives for each size, tried when the grid is made if every rank has a core
 * shm   the same without trying: our ways by a table
 * messages  as if every rank were alone on its host
 * mpi   MPI's own collectives, and messages for the rest
 *
 * A rank that waits in a step for TRIREME_PATIENCE seconds (30; 0: without a word), then for twice
 * as long and so on, says on the standard error which rank on which host has not answered. */
#ifndef TRIREME_COMM_COMM_H
#define TRIREME_COMM_COMM_H

#include "base/status.h"

typedef struct comm_world comm_world_t;
typedef struct comm_grid  comm_grid_t;

/* Name and version of the MPI library, one line, into buf. May be called before comm_world_open. */
const char *comm_library_version(char *buf, size_t buf_bytes);

/* Start MPI (MPI_THREAD_FUNNELED) when started by a launcher, or as a single process without one.
 * Installs the signal flags (comm_interrupted). Warns when the launcher meant several ranks but the
 * world has one, and when it has another size than Slurm's step (SLURM_STEP_NUM_TASKS) or, under
 * mpirun in a job, than the job (SLURM_NTASKS). TRIREME_FORCE_MPI=1 starts MPI in any case.
 * On an error *out is NULL, or, where all ranks agreed on the error (one of them is out of memory),
 * a world that is good for comm_rank and comm_world_close only: its rank 0 should tell.
 * Status: OK | SYSTEM | MEMORY | LIMIT | PEER. Collective over all processes. */
base_status_t comm_world_open(comm_world_t **out, base_err_t *err);
/* Orderly end (MPI_Finalize). Accepts NULL. Collective. */
void comm_world_close(comm_world_t **world);
/* End of every rank at once after an error only this rank knows of: prints err, then MPI_Abort with
 * the exit status. For failures after agreement has become impossible. Does not return. */
_Noreturn void comm_world_abort(comm_world_t *world, const base_err_t *err);

int comm_rank(const comm_world_t *world);
int comm_size(const comm_world_t *world);
int comm_local_rank(const comm_world_t *world); /* among the ranks of this host */
int comm_local_size(const comm_world_t *world);
int comm_host_count(const comm_world_t *world);
int comm_host_index(const comm_world_t *world); /* hosts numbered by their lowest rank */
/* What the host of a rank calls itself, cut to 63 bytes; rank < comm_size. Owned by the world. */
const char *comm_host_name(const comm_world_t *world, int rank);

/* How many threads of this rank compute at a time (1 until told): where the CPUs of the host do not
 * suffice for the threads of all its ranks, waits give the CPU away at once. Collective over the
 * world. */
base_status_t comm_world_set_threads(comm_world_t *world, uint32_t threads, base_err_t *err);

/* CPUs that a control group allows this host at a time; 0: no limit. Before comm_world_set_threads.
 * Where they do not suffice waits sleep: time that is waited away would be missing afterwards.
 * Local. */
void comm_world_set_quota(comm_world_t *world, double cpus);

/* SIGINT or SIGTERM arrived: flag set by handlers installed in comm_world_open. A second signal
 * (0.2 s or more after the first), or 2 s without comm_world_close, ends the process at once;
 * SIGALRM serves this. SIGPIPE is ignored, and blocking reads return EINTR. comm_interrupt_exit:
 * 130 or 143, 0 if none. */
bool comm_interrupted(void);
int  comm_interrupt_exit(void);

/* Agreement: every rank brings its status and error; all get the worst (highest exit status, then
 * lowest rank), with that rank's text prefixed "rank N: " when the world has several ranks, unless
 * it was agreed on before and says so. Returns the agreed status. Collective over the world. */
base_status_t comm_agree(comm_world_t *world, base_status_t status, base_err_t *err);

/* Control channel: rank 0 sends one message to all; others wait (asleep). `bytes` <= capacity of
 * the receivers. comm_control_recv blocks until a message, or until the interrupt flag is 0.6 s old
 * (then INTERRUPTED). *bytes: length received. LIMIT: over LIMIT_MESSAGE_BYTES (send; nothing was
 * sent) or over the capacity (recv; the message is lost, the next one arrives). Status: OK | LIMIT
 * | INTERRUPTED | PEER. Collective over the world: one send on rank 0, one recv on each other.
 *
 * Lengths from the wire are checked before anything is written: a message that is longer or shorter
 * than it announced, or announces more than LIMIT_MESSAGE_BYTES, ends all ranks
 * (comm_world_abort), as the next one could no longer be found, and no agreement be reached. The
 * same holds for comm_control_share and comm_control_scatter. */
base_status_t comm_control_send(comm_world_t *world, const void *message, size_t bytes,
                                base_err_t *err);
base_status_t comm_control_recv(comm_world_t *world, void *message, size_t capacity, size_t *bytes,
                                base_err_t *err);
/* The same bytes for all: rank 0's, whose length each rank knows. A message of another length is
 * one of another place in the order of messages: that ends all ranks. what: for its error text.
 * Status: OK | LIMIT (rank 0) | INTERRUPTED | PEER. Collective over the world. */
base_status_t comm_control_share(comm_world_t *world, const char *what, void *data, size_t bytes,
                                 base_err_t *err);
/* Rank 0 hands each rank a message of its own (start-up: plans). On rank 0 messages[r], lengths[r]
 * for all r; every rank (0 too) receives into *out (malloc'd; free()). MEMORY may hit one rank
 * alone, LIMIT (rank 0) comes with PEER on the ranks whose message is too long; none is left
 * waiting: agree afterwards. Collective over the world. */
base_status_t comm_control_scatter(comm_world_t *world, const void *const *messages,
                                   const size_t *lengths, void **out, size_t *bytes,
                                   base_err_t *err);
/* Fixed-size records of all ranks to rank 0, rank order (memory, timings). in: bytes; out on rank
 * 0: size * bytes, ignored elsewhere. Collective over the world. */
base_status_t comm_gather_records(comm_world_t *world, const void *in, size_t bytes, void *out,
                                  base_err_t *err);
/* All ranks wait for all (asleep). Collective over the world. */
base_status_t comm_barrier(comm_world_t *world, base_err_t *err);

/* What the link between two ranks does, as this program would use it. */
typedef struct {
    double latency;     /* seconds, one way: an exchange of 8 bytes, both sending at once */
    double bytes_per_s; /* one way, in pieces of 256 KiB: the median of three spans */
} comm_link_t;

/* Measure between ranks a and b, a != b: about 60 ms, longer where a piece takes longer. Both get
 * the figures; other ranks return at once with zeros, so calls for pairs without a common rank run
 * at the same time. Status: OK | PEER. Called by all ranks with the same a and b. */
base_status_t comm_measure_link(comm_world_t *world, int a, int b, comm_link_t *link,
                                base_err_t *err);

/* The grid: rank = stage * shards + shard; stages * shards == comm_size (else USAGE). Destroy it
 * before the world is closed. Collective over the world. */
base_status_t comm_grid_create(comm_world_t *world, uint32_t stages, uint32_t shards,
                               comm_grid_t **out, base_err_t *err);
void          comm_grid_destroy(comm_grid_t **grid); /* accepts NULL. Collective. */
/* comm_agree of all ranks of the grid. Collective over the world. */
base_status_t comm_grid_agree(comm_grid_t *grid, base_status_t status, base_err_t *err);
uint32_t      comm_grid_stage(const comm_grid_t *grid);
uint32_t      comm_grid_shard(const comm_grid_t *grid);
uint32_t      comm_grid_stages(const comm_grid_t *grid);
uint32_t      comm_grid_shards(const comm_grid_t *grid);

/* --- over the shard group (the ranks of one stage); no-ops when shards == 1; no allocation --- */

/* Sum n int32 values in place; all ranks of the group get the total. Exact in any order. */
base_status_t comm_sum_i32(comm_grid_t *grid, int32_t *buf, size_t n, base_err_t *err);
/* Gather float pieces of every shard to every shard: piece i has counts[i] floats and lies at
 * offsets[i] of buf; the own piece is already in place. counts, offsets: shards entries, the same
 * on all ranks. */
base_status_t comm_gather_f32(comm_grid_t *grid, float *buf, const uint32_t *counts,
                              const uint32_t *offsets, base_err_t *err);
/* The same for ranks that come long after one another, as at start: who waits answers asks for
 * weights (comm_serve_begin) by every means. All ranks of the group call this one. Not for steps:
 * the MPI library's own way is slower. */
base_status_t comm_gather_apart(comm_grid_t *grid, float *buf, const uint32_t *counts,
                                const uint32_t *offsets, base_err_t *err);

/* --- between stages; no allocation --- */

/* Buffers for messages of up to stage_floats floats, so that sends between stages no longer wait
 * for their receivers, and the calls on logits that follow; once, before the first message. Does
 * nothing with one stage. Status: OK | MEMORY | PEER. Collective over the world. */
base_status_t comm_grid_reserve(comm_grid_t *grid, size_t stage_floats, base_err_t *err);

/* Send / receive n floats to / from the same shard of the next / previous stage. With buffers a
 * send waits only when about two large messages (or four to another host) are still on their way;
 * buf is free afterwards. */
base_status_t comm_stage_send(comm_grid_t *grid, const float *buf, size_t n, base_err_t *err);
base_status_t comm_stage_recv(comm_grid_t *grid, float *buf, size_t n, base_err_t *err);

/* Let MPI move what is on its way; cheap, for the middle of long computations. */
void comm_poke(comm_grid_t *grid);

/* Logits with two or more stages and buffers: nobody waits but rank 0 in comm_logits_collect.
 * Rows are [n_rows][counts[shard]] on the shards of the last stage and [n_rows][row_stride] on rank
 * 0, shard i's at column offsets[i].
 * comm_logits_send    a shard of the last stage; `piece` stays untouched until
 * comm_logits_settle  has returned: of the pieces sent, all but the latest `left` have left; before
 *                     a send at most COMM_LOGITS_OUT - 1 may be on their way
 * comm_logits_expect  rank 0, once for each step with rows, in their order, up to
 *                     COMM_LOGITS_AHEAD ahead; `logits` belongs to it until
 * comm_logits_collect rank 0: the rows of the oldest step are there */
enum { COMM_LOGITS_AHEAD = 16, COMM_LOGITS_OUT = 2 };
base_status_t comm_logits_send(comm_grid_t *grid, const float *piece, size_t n_rows, size_t count,
                               base_err_t *err);
base_status_t comm_logits_settle(comm_grid_t *grid, uint32_t left, base_err_t *err);
base_status_t comm_logits_expect(comm_grid_t *grid, size_t n_rows, const uint32_t *counts,
                                 const uint32_t *offsets, float *logits, size_t row_stride,
                                 base_err_t *err);
base_status_t comm_logits_collect(comm_grid_t *grid, base_err_t *err);

/* Logits, with rank 0 waiting: the shards of the last stage bring n_rows rows of their vocabulary
 * slice (row-major [n_rows][counts[shard]]) and rank 0 gets [n_rows][row_stride] with shard i's
 * slice at column offsets[i]. counts, offsets: shards entries. Called by the ranks of the last
 * stage and by rank 0 (which may be both). `staging`: on rank 0 room for n_rows * max(counts)
 * floats. Ranks outside return OK at once. */
base_status_t comm_logits_to_root(comm_grid_t *grid, const float *piece, size_t n_rows,
                                  const uint32_t *counts, const uint32_t *offsets, float *logits,
                                  size_t row_stride, float *staging, base_err_t *err);

/* --- weight streams: one rank has bytes that others ask for, at start --- */

enum {
    COMM_ASK_BYTES  = 96,   /* of an ask: opaque */
    COMM_FEED_SLOTS = 4096, /* asks of one rank in flight, at most */
};

/* What answers an ask of rank `from`. First called with out NULL: *n becomes the bytes that the
 * answer needs. Then again with room for them. An error becomes the asker's, with its text. */
typedef base_status_t comm_answer_fn(void *ctx, int from, const void *ask, uint8_t *out, size_t *n,
                                     base_err_t *err);

/* From now on asks of other ranks are answered inside comm_serve_poll, and inside every wait of
 * this room: so that a rank that waits for another one, which waits for weights, does not make it
 * wait for ever. The world must have several ranks. A few buffers as large as the largest answer
 * (up to LIMIT_ANSWER_BYTES) are kept until the end. Status: OK | MEMORY | PEER. Local. */
base_status_t comm_serve_begin(comm_world_t *world, comm_answer_fn *answer, void *ctx,
                               base_err_t *err);
/* Answer what has been asked so far; does not wait. True: something is on its way. Does nothing
 * without comm_serve_begin. Local. */
bool comm_serve_poll(comm_world_t *world);
/* All askers must have their answers (an agreement of all ranks lies between). Local. */
void comm_serve_end(comm_world_t *world);

/* The asking side: n_slots asks in flight at most, answers of up to `capacity` bytes. Local. */
typedef struct comm_feed comm_feed_t;

base_status_t comm_feed_create(comm_world_t *world, int server, uint32_t n_slots, size_t capacity,
                               comm_feed_t **out, base_err_t *err);
/* Accepts NULL. Not while an ask is open (comm_feed_drain). */
void comm_feed_destroy(comm_feed_t **feed);

/* Ask by a slot without an open ask (asserted). ask: COMM_ASK_BYTES. Status: OK | PEER. Local. */
base_status_t comm_feed_ask(comm_feed_t *feed, uint32_t slot, const void *ask, base_err_t *err);

/* `data` is the feed's, until the slot asks again. */
typedef struct {
    uint32_t       slot;
    size_t         bytes;
    const uint8_t *data;
} comm_arrival_t;

/* What has arrived since the last call: *n of them; arrivals has room for n_slots. Does not wait.
 * Status: OK | PEER | the server's error, with its text. Local. */
base_status_t comm_feed_poll(comm_feed_t *feed, comm_arrival_t *arrivals, uint32_t *n,
                             base_err_t *err);
/* Wait until no ask is open, whatever the answers say. */
base_status_t comm_feed_drain(comm_feed_t *feed, base_err_t *err);
/* A short rest after `waited_us` of polling in vain. A server that is waited for too long is
 * named. */
void comm_feed_rest(comm_feed_t *feed, uint64_t waited_us);

/* Traffic since start or the last reset: bytes this rank sent (or put into shared memory) in
 * data-plane calls, time spent in them, waiting included, and how many calls there were (those that
 * were no-ops do not count). */
typedef struct {
    uint64_t bytes;
    uint64_t wait_us;
    uint64_t calls;
} comm_stats_t;
comm_stats_t comm_stats(const comm_grid_t *grid);
void         comm_stats_reset(comm_grid_t *grid);

#endif
