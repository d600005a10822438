/* tests/support/preload/flip.c
 * A damaged network: flips one bit in some of the pieces of weights that a rank sends, behind the
 * sender's back, by way of MPI's profiling interface.
 *   FLIP_FROM=N, FLIP_COUNT=N  which of the pieces, counted from 0 */
#include <mpi.h>
#include <stdint.h>
#include <stdlib.h>

enum { ANSWER_TAG = 1024, PIECE_BYTES = 2048 }; /* comm/internal.h: COMM_TAG_ANSWER */

int MPI_Isend(const void *buf, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    static long seen  = 0;
    const char *from  = getenv("FLIP_FROM");
    const char *n     = getenv("FLIP_COUNT");
    const long  first = from == NULL ? 0 : strtol(from, NULL, 10);
    const long  times = n == NULL ? 0 : strtol(n, NULL, 10);
    if (tag >= ANSWER_TAG && count >= PIECE_BYTES) {
        if (seen >= first && seen < first + times) ((uint8_t *)(uintptr_t)buf)[count - 7] ^= 4;
        seen++;
    }
    return PMPI_Isend(buf, count, type, to, tag, comm, request);
}
