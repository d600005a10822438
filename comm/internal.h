/* comm/internal.h
 * What the files of comm share, MPI types included: no other room includes this header. */
#ifndef TRIREME_COMM_INTERNAL_H
#define TRIREME_COMM_INTERNAL_H

#include <mpi.h>

#include "comm/comm.h"
#include "comm/shm.h"

enum {
    COMM_TAG_CONTROL = 1, /* on world->all */
    COMM_TAG_SCATTER,
    COMM_TAG_LINK,
    COMM_TAG_STAGE, /* on grid->all */
    COMM_TAG_LOGITS,
    COMM_TAG_SUM, /* on grid->group */
    COMM_TAG_GATHER,
    COMM_TAG_MEASURE,       /* on world->all */
    COMM_TAG_ASK,           /* on world->all */
    COMM_TAG_ANSWER = 1024, /* the same; and the slot */
};

enum {
    COMM_HEAD_BYTES = 2048, /* below the eager limit of every transport: sent without a handshake */
    COMM_CHUNK_BYTES       = 1 << 18, /* a larger transfer goes in pieces of this size */
    COMM_INTERRUPT_GIVE_UP = 600000,  /* us: mpirun kills 1 s after its SIGTERM */
};

typedef struct comm_server comm_server_t;

enum { COMM_CLASSES = 4 }; /* of sizes of collectives */

enum { COMM_NAME_BYTES = 64 }; /* of a host's name, cut */

/* How a sum or a gather goes. */
typedef enum {
    COMM_WAY_LOCAL,  /* shared memory: all shards are on this host */
    COMM_WAY_DIRECT, /* hosts send all to all */
    COMM_WAY_SLICES, /* hosts sum a slice each, then hand it on */
    COMM_WAY_MPI,    /* the library's own collective */
} comm_way_t;

struct comm_world {
    bool     mpi;        /* false: one process, and MPI was never started */
    bool     shared_end; /* all ranks agreed that this world does not open */
    int      rank, size;
    int      local_rank, local_size;
    int      host_count, host_index;
    int      cpus;      /* that the ranks of this host may use */
    double   quota;     /* of them by control group; 0: no limit */
    bool     spin;      /* they suffice for all ranks and threads of this host */
    bool     rationed;  /* the quota does not: CPU time spent on waiting is missing afterwards */
    MPI_Comm all;       /* control plane */
    MPI_Comm host;      /* ranks of this host */
    int     *local_of;  /* place of each rank on this host, -1 if elsewhere; NULL without MPI */
    int     *leader_of; /* lowest rank on the host of each rank; NULL without MPI */
    /* an event of each rank of this host, rung when a message is on its way to it */
    comm_shm_t    bells;
    comm_event_t *bell; /* the own one; NULL without shared memory */
    uint8_t      *head; /* COMM_HEAD_BYTES: a cancelled wait for a message may yet fill it */
    uint8_t *scratch;   /* COMM_CHUNK_BYTES: pieces of control messages that are only passed on */
    /* requests of one call that talks to many ranks: as many as the world has ranks */
    MPI_Request   *requests;
    comm_server_t *server; /* feed.c; NULL: nobody asks this rank */
    /* patience.c */
    char name[COMM_NAME_BYTES];     /* of this host */
    char (*names)[COMM_NAME_BYTES]; /* of the hosts of all ranks; NULL without MPI */
    uint64_t patience_us;           /* 0: endless */
    uint64_t steps;                 /* control messages so far */
};

enum {
    COMM_STAGE_SLOTS  = 4, /* messages to the next stage that may be on their way */
    COMM_STAGE_POSTED = 2, /* receives of the stage before that wait for data */
};

/* `count` floats of each row of `stride`, as MPI knows them: made once, as all steps bring rows of
 * the same length. */
typedef struct {
    MPI_Datatype type;
    uint32_t     count;
    size_t       stride;
} comm_rows_t;

/* What moves between stages while the ranks compute (stream.c). Without buffers (floats 0) a send
 * waits for its receiver. */
typedef struct {
    size_t       floats;                /* of the largest message */
    float       *memory;                /* of all buffers */
    float       *out[COMM_STAGE_SLOTS]; /* to another host's rank; NULL otherwise */
    float       *in[COMM_STAGE_POSTED]; /* from another host's rank */
    MPI_Request  out_request[COMM_STAGE_SLOTS];
    MPI_Request  in_request[COMM_STAGE_POSTED];
    uint32_t     next_out, next_in;
    MPI_Request  logits_out[COMM_LOGITS_OUT]; /* last stage: of pieces on their way to rank 0 */
    uint32_t     logits_out_n;                /* sends so far */
    MPI_Request *logits_in;                   /* rank 0: [COMM_LOGITS_AHEAD][shards] */
    uint32_t     logits_first, logits_n;      /* ring of expected groups */
    comm_rows_t *rows;                        /* rank 0: [shards] */
} comm_stream_t;

struct comm_grid {
    comm_world_t *world;
    uint32_t      stages, shards, stage, shard;
    MPI_Comm      all;   /* rank = stage * shards + shard */
    MPI_Comm      group; /* the shards of this stage; rank = shard */
    MPI_Request  *requests;
    comm_stats_t  stats;
    /* how collectives go, by size (collective.c): comm_way_t */
    uint8_t sum_way[COMM_CLASSES], gather_way[COMM_CLASSES];
    /* the hosts of the group (local.c finds them) */
    uint32_t  n_hosts, n_mates, my_mate;
    uint32_t  lanes;    /* shards of the smallest host */
    uint32_t *host_of;  /* [shards] 0 .. n_hosts - 1 */
    uint32_t *place_of; /* [shards] among the mates of its host */
    uint32_t *mates;    /* [n_mates] the shards of this host, this one too */
    uint32_t *peers;    /* [n_hosts] the shard of each host in this one's place, if it has one */
    uint8_t  *pack;     /* what goes to other hosts, and what comes from them */
    uint8_t  *work;
    int      *ints;  /* [2 * shards] counts and offsets as MPI wants them */
    int      *asked; /* [2 * shards] whose requests they are */
    /* the ranks of this host (local.c) */
    comm_shm_t    shm;
    comm_shm_t    rings;      /* larger rings of the streams; parts NULL: those of shm */
    uint32_t      ring_slots; /* of each */
    comm_stream_t stream;
    bool          local_group; /* all shards of this stage are here */
    uint32_t      arrivals;    /* of all mates so far */
    uint32_t      slot;        /* which slot the next collective uses */
};

/* ---- wait.c ---- */

typedef enum {
    COMM_WAIT_DATA,   /* a peer is about to answer: latency counts */
    COMM_WAIT_SLEEPY, /* may last: the CPU belongs to others; latency is a share of the wait */
    COMM_WAIT_IDLE,   /* the same, and an interrupt older than COMM_INTERRUPT_GIVE_UP ends it */
} comm_wait_t;

/* Wait for all n requests; they are MPI_REQUEST_NULL afterwards. `what` names the MPI call in
 * errors. On INTERRUPTED (COMM_WAIT_IDLE) the requests were cancelled. */
base_status_t comm_wait(comm_world_t *world, MPI_Request *requests, int n, comm_wait_t kind,
                        const char *what, base_err_t *err);

enum { COMM_TOO_LONG = -1 };

/* The same for one receive. *bytes: how many arrived; COMM_TOO_LONG: more than there was room for,
 * none of them beyond it. */
base_status_t comm_wait_message(comm_world_t *world, MPI_Request *request, comm_wait_t kind,
                                int *bytes, const char *what, base_err_t *err);

/* Whose requests they are: of rank list[i], or first + i. */
typedef struct {
    const int *list;
    int        first;
} comm_peers_t;

/* COMM_WAIT_DATA, in a step: who does not answer for long is named on the standard error. */
base_status_t comm_wait_data(comm_world_t *world, MPI_Request *requests, int n, comm_peers_t peers,
                             const char *what, base_err_t *err);

/* A pause that lengthens with the time waited. */
void comm_nap(const comm_world_t *world, uint64_t waited_us);

/* Tell a rank of this host that a message is on its way; nothing for other ranks. */
void comm_ring(const comm_world_t *world, int rank);

/* Turns the result of an MPI call into a status: BASE_OK, or PEER with MPI's own text. */
base_status_t comm_check(int rc, const char *what, base_err_t *err);

/* ---- grid.c, collective.c ---- */

void comm_count(comm_grid_t *grid, uint64_t start_us, uint64_t bytes); /* for the statistics */
/* Which way each size of sums and gathers goes: by a table, or, where `measure` and it is not
 * clear, by trying. `mpi`: the library's own. Collective over the group. */
base_status_t comm_collective_choose(comm_grid_t *grid, bool measure, bool mpi, base_err_t *err);
/* How a sum or gather of so many bytes goes, in words. */
const char *comm_means(const comm_grid_t *grid, bool sum, size_t bytes);
/* First value of slice s when n values are cut into `shards` slices that differ by at most one. */
size_t comm_slice_begin(size_t n, uint32_t shards, uint32_t s);

/* ---- stream.c ---- */

void comm_stream_destroy(comm_grid_t *grid); /* ends what is on its way */

/* ---- patience.c ---- */

base_status_t comm_patience_open(comm_world_t *world, base_err_t *err); /* collective */
/* Is it time to name who does not answer? *next_us: 0 when the wait begins; each word comes after
 * twice the time of the one before. Local. */
bool comm_patience_over(const comm_world_t *world, uint64_t waited_us, uint64_t *next_us);
void comm_patience_tell(const comm_world_t *world, int rank, uint64_t waited_us);
void comm_patience_tell_feed(const comm_world_t *world, int rank, uint64_t waited_us);

/* ---- interrupt.c ---- */

base_status_t comm_interrupt_install(base_err_t *err);
void          comm_interrupt_done(void); /* the orderly end was reached: no forced exit any more */
uint64_t      comm_interrupt_age_us(void); /* since the first signal; 0 if none */

#endif
