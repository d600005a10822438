/* tests/support/preload/memory.c
 * Rank 1 of an MPI world runs out of memory while the world opens, by way of MPI's profiling
 * interface: it allocates right after its first MPI_Comm_size.
 *   MEMORY_FAILS=N  the N-th allocation from there, counted from 1, fails */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <mpi.h>
#include <stdlib.h>

static _Thread_local int  open, asked;
static _Thread_local long seen;

int MPI_Comm_size(MPI_Comm comm, int *size)
{
    int       rank = 0;
    const int rc   = PMPI_Comm_size(comm, size);
    (void)PMPI_Comm_rank(comm, &rank);
    open  = !asked && rank == 1;
    asked = 1;
    return rc;
}

/* The allocations are over: the world asks for its hosts. */
int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm *out)
{
    open = 0;
    return PMPI_Comm_split_type(comm, type, key, info, out);
}

int MPI_Iallreduce(const void *send, void *receive, int count, MPI_Datatype type, MPI_Op op,
                   MPI_Comm comm, MPI_Request *request)
{
    open = 0;
    return PMPI_Iallreduce(send, receive, count, type, op, comm, request);
}

void *calloc(size_t n, size_t bytes)
{
    static void *(*real)(size_t, size_t);
    const char *text = open ? getenv("MEMORY_FAILS") : NULL;
    if (text != NULL && ++seen == strtol(text, NULL, 10)) return NULL;
    if (real == NULL) real = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
    return real(n, bytes);
}
