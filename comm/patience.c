/* comm/patience.c: a word about ranks that do not answer. Only waits that last look here. */
#include <stdlib.h>

#include "base/log.h"
#include "comm/internal.h"

enum { PATIENCE_S = 30, PATIENCE_MOST_S = 1000000 };

base_status_t comm_patience_open(comm_world_t *world, base_err_t *err)
{
    const char *text    = getenv("TRIREME_PATIENCE");
    char       *end     = NULL;
    long        seconds = text == NULL ? PATIENCE_S : strtol(text, &end, 10);

    if (text != NULL && (end == text || *end != '\0' || seconds < 0 || seconds > PATIENCE_MOST_S)) {
        if (world->rank == 0)
            base_log(BASE_LOG_WARN,
                     "TRIREME_PATIENCE=%s: not a number of seconds from 0 to %d; it is %d", text,
                     PATIENCE_MOST_S, PATIENCE_S);
        seconds = PATIENCE_S;
    }
    world->patience_us = (uint64_t)seconds * 1000000;
    return comm_check(MPI_Allgather(world->name, COMM_NAME_BYTES, MPI_CHAR, world->names,
                                    COMM_NAME_BYTES, MPI_CHAR, world->all),
                      "MPI_Allgather", err);
}

const char *comm_host_name(const comm_world_t *world, int rank)
{
    return world->names == NULL ? world->name : world->names[rank];
}

bool comm_patience_over(const comm_world_t *world, uint64_t waited_us, uint64_t *next_us)
{
    if (world->patience_us == 0) return false;
    if (*next_us == 0) *next_us = world->patience_us;
    if (waited_us < *next_us) return false;
    *next_us = 2 * waited_us;
    return true;
}

static const char causes[] =
    "Likely cause: it is stopped, it is much slower than this rank, or its machine is gone. Still "
    "waiting";

void comm_patience_tell(const comm_world_t *world, int rank, uint64_t waited_us)
{
    base_log(BASE_LOG_WARN, "rank %d on host %.*s has not answered for %.1f s, in step %llu. %s",
             rank, COMM_NAME_BYTES, world->names[rank], (double)waited_us * 1e-6,
             (unsigned long long)world->steps, causes);
}

void comm_patience_tell_feed(const comm_world_t *world, int rank, uint64_t waited_us)
{
    base_log(BASE_LOG_WARN, "rank %d on host %.*s has sent no weights for %.1f s. %s", rank,
             COMM_NAME_BYTES, world->names[rank], (double)waited_us * 1e-6, causes);
}
