/* tests/support/preload/fault.c
 * Faults in the middle of steps, by way of MPI's profiling interface.
 *   FAULT_MESSAGE=N  rank 0 damages its N-th control message: the others refuse the batch
 *   FAULT_WAIT=N     rank 1 fails at its first look at requests after it asked for its N-th control
 *                    message. Looks are not counted: how many a wait takes is a matter of load.
 *   FAULT_ASK=N      rank 1's N-th ask for weights is a byte too short
 *   FAULT_ANSWER=N   rank 0 cannot send its N-th answer
 *   FAULT_LATE=N     rank 0 sends its N-th answer four seconds late
 *   FAULT_SHM=N      rank 0 fills /dev/shm when it has its N-th shared window */
#include <fcntl.h>
#include <mpi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* comm/internal.h: COMM_TAG_*; comm/control.c */
enum { CONTROL_TAG = 1, ASK_TAG = 9, ANSWER_TAG = 1024, HEAD_BYTES = 8 };

static int due(const char *name, int wanted, long *seen)
{
    const char *text = getenv(name);
    int         rank = 0;
    if (text == NULL) return 0;
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank == wanted && ++*seen == strtol(text, NULL, 10);
}

int MPI_Isend(const void *buf, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    static long seen, asks, answers, late;
    if (tag == ASK_TAG && due("FAULT_ASK", 1, &asks)) count--;
    if (tag >= ANSWER_TAG && due("FAULT_ANSWER", 0, &answers)) return MPI_ERR_OTHER;
    if (tag >= ANSWER_TAG && due("FAULT_LATE", 0, &late)) (void)sleep(4);
    if (tag == CONTROL_TAG && count > HEAD_BYTES && due("FAULT_MESSAGE", 0, &seen))
        memset((uint8_t *)(uintptr_t)buf + HEAD_BYTES, 0xff, (size_t)(count - HEAD_BYTES));
    return PMPI_Isend(buf, count, type, to, tag, comm, request);
}

static int wait_fails;

int MPI_Irecv(void *buf, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    static long seen;
    if (tag == CONTROL_TAG && due("FAULT_WAIT", 1, &seen)) wait_fails = 1;
    return PMPI_Irecv(buf, count, type, from, tag, comm, request);
}

int MPI_Testall(int n, MPI_Request *requests, int *done, MPI_Status *statuses)
{
    if (wait_fails) return MPI_ERR_OTHER;
    return PMPI_Testall(n, requests, done, statuses);
}

int MPI_Win_allocate_shared(MPI_Aint bytes, int unit, MPI_Info info, MPI_Comm comm, void *base,
                            MPI_Win *win)
{
    static char block[4096];
    static long seen;
    const int   rc = PMPI_Win_allocate_shared(bytes, unit, info, comm, base, win);
    if (due("FAULT_SHM", 0, &seen)) {
        const int fd = open("/dev/shm/full", O_CREAT | O_WRONLY, 0600);
        while (write(fd, block, sizeof(block)) == (ssize_t)sizeof(block)) {}
        (void)close(fd);
    }
    return rc;
}
