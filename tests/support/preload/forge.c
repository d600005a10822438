/* tests/support/preload/forge.c
 * A rank 0 that is not to be trusted: one of its messages is another one, by way of MPI's profiling
 * interface.
 *   FORGE_TAG=N       1: control messages, 2: start-up messages (comm/internal.h: COMM_TAG_*)
 *   FORGE_AT=N        the N-th MPI_Isend of that tag, from 1 on
 *   FORGE_ANNOUNCE=N  its first eight bytes become this number
 *   FORGE_BYTES=N     it is so long: cut, or with zeros behind it
 *   FORGE_TRACE=1     what is sent by the tag is listed on the standard error */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1 << 20 };

static uint8_t forged[ROOM];

static int is_set(const char *name, long long *value)
{
    const char *text = getenv(name);
    *value           = text == NULL ? 0 : (long long)strtoull(text, NULL, 0);
    return text != NULL;
}

int MPI_Isend(const void *buf, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    static long long seen;
    long long        want = 0, at = 0, value = 0;
    int              rank = 0;

    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank != 0 || !is_set("FORGE_TAG", &want) || tag != want || type != MPI_BYTE)
        return PMPI_Isend(buf, count, type, to, tag, comm, request);
    seen++;
    if (is_set("FORGE_TRACE", &value))
        (void)fprintf(stderr, "send %lld: %d bytes to rank %d\n", seen, count, to);
    if (!is_set("FORGE_AT", &at) || at != seen || count > ROOM)
        return PMPI_Isend(buf, count, type, to, tag, comm, request);
    memcpy(forged, buf, (size_t)count);
    if (is_set("FORGE_ANNOUNCE", &value)) memcpy(forged, &value, sizeof(value));
    if (is_set("FORGE_BYTES", &value) && value <= ROOM) count = (int)value;
    return PMPI_Isend(forged, count, type, to, tag, comm, request);
}
