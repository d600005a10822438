/* comm/measure.h
 * How long the collectives and streams of comm take, beside what the MPI library offers for the
 * same (`trireme bench --comm`). */
#ifndef TRIREME_COMM_MEASURE_H
#define TRIREME_COMM_MEASURE_H

#include "comm/comm.h"

/* One operation at one size. Times in microseconds of one call, as rank 0 sees it, of batches of
 * calls that follow each other; ours and MPI's batches take turns. */
typedef struct {
    const char *op;    /* "sum_i32", "gather_f32", "hop", "control", "barrier" */
    const char *mpi;   /* what it is compared with: "MPI_Allreduce", ... */
    const char *group; /* "host": the ranks of one host; "hosts": ranks of several */
    const char *means; /* "shared memory", "messages", ... */
    uint32_t    ranks; /* of the group */
    uint32_t    hosts; /* that it spans */
    size_t      bytes; /* of the vector that all ranks have afterwards, or that moves; barrier: 0 */
    double      best_us, median_us;
    double      mpi_best_us, mpi_median_us;
} comm_measure_row_t;

/* Called on rank 0 only. Anything but OK ends the measurement on all ranks. */
typedef base_status_t comm_measure_row_fn(void *ctx, const comm_measure_row_t *row,
                                          base_err_t *err);

typedef struct {
    const size_t        *sizes; /* bytes, multiples of 4, at least 4; the same on all ranks */
    size_t               n_sizes;
    double               seconds; /* for each row, about */
    comm_measure_row_fn *row;
    void                *ctx;
} comm_measure_t;

/* sum_i32: comm_sum_i32 of `bytes` / 4 values below 4096, written anew
 * before each call, against MPI_Allreduce in place, likewise.
 * gather_f32: comm_gather_f32 of equal pieces, `bytes` in all, against MPI_Allgatherv in place.
 * hop: a vector from rank to rank through all of the group and back to rank 0, by the number of
 * hops, against MPI_Send and MPI_Recv on the same way.
 * control: comm_control_send to all and MPI_Barrier, against MPI_Bcast and MPI_Barrier.
 * barrier: comm_barrier against MPI_Barrier.
 * Nothing is measured, and the status is OK, when there is one rank. Calls come one right after the
 * other; comm_world_set_threads decides whether they spin. Status: OK | MEMORY | PEER |
 * INTERRUPTED, or what `row` said, the same on all ranks. Collective over the world. */
base_status_t comm_measure(comm_world_t *world, const comm_measure_t *config, base_err_t *err);

#endif
