/* comm/agree.c: ranks agree before they part. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "comm/internal.h"

/* Larger is worse: exit status first, then the lower rank. OK is 0 for every rank. */
static int64_t badness(const comm_world_t *world, base_status_t status)
{
    if (status == BASE_OK) return 0;
    return ((int64_t)base_status_exit(status) << 32) | (int64_t)(world->size - world->rank);
}

typedef struct {
    int32_t code;
    char    text[BASE_ERR_TEXT_BYTES];
} verdict_t;

/* Does the text say which rank it comes from? So do those that were agreed on before. */
static bool names_rank(const char *text)
{
    const char *p = text;
    if (strncmp(p, "rank ", 5) != 0) return false;
    for (p += 5; *p >= '0' && *p <= '9';) p++;
    return p > text + 5 && p[0] == ':' && p[1] == ' ';
}

base_status_t comm_agree(comm_world_t *world, base_status_t status, base_err_t *err)
{
    int64_t       mine = 0, worst = 0;
    verdict_t     verdict;
    MPI_Request   request = MPI_REQUEST_NULL;
    base_status_t st      = BASE_OK;

    base_assert(world != NULL);
    if (world->size == 1) return status;
    mine = badness(world, status);
    st   = comm_check(MPI_Iallreduce(&mine, &worst, 1, MPI_INT64_T, MPI_MAX, world->all, &request),
                      "MPI_Iallreduce", err);
    if (st == BASE_OK) st = comm_wait(world, &request, 1, COMM_WAIT_SLEEPY, "MPI_Iallreduce", err);
    if (st != BASE_OK || worst == 0) return st;

    int owner = world->size - (int)(worst & INT32_MAX);
    if (owner < 0 || owner >= world->size)
        return base_fail(err, BASE_ERR_PEER, "the worst status is of rank %d, of %d ranks", owner,
                         world->size);
    memset(&verdict, 0, sizeof(verdict));
    if (owner == world->rank) {
        verdict.code = (int32_t)status;
        (void)snprintf(verdict.text, sizeof(verdict.text), "%s",
                       err != NULL && err->code == status ? err->text : base_status_name(status));
    }
    st = comm_check(
        MPI_Ibcast(&verdict, (int)sizeof(verdict), MPI_BYTE, owner, world->all, &request),
        "MPI_Ibcast", err);
    if (st == BASE_OK) st = comm_wait(world, &request, 1, COMM_WAIT_SLEEPY, "MPI_Ibcast", err);
    if (st != BASE_OK) return st;
    verdict.text[sizeof(verdict.text) - 1] = '\0';
    if (verdict.code <= 0 || verdict.code >= BASE_STATUS_COUNT)
        return base_fail(err, BASE_ERR_PEER, "rank %d agreed on the unknown status %d", owner,
                         verdict.code);
    if (names_rank(verdict.text))
        return base_fail(err, (base_status_t)verdict.code, "%s", verdict.text);
    return base_fail(err, (base_status_t)verdict.code, "rank %d: %s", owner, verdict.text);
}
