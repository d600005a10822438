/* comm/shm.c: memory shared by the ranks of one host. */
#include "comm/shm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/log.h"
#include "comm/internal.h"

/* Where MPI libraries keep shared windows if they can, and what they want there besides. */
#define SHM_FOLDER "/dev/shm"
enum { SHM_BESIDES = 256 << 10 };

static uint8_t *align_up(void *p)
{
    return (uint8_t *)p + (COMM_LINE - (uintptr_t)p % COMM_LINE) % COMM_LINE;
}

/* Windows are files without blocks: a folder that is too full is noticed by a signal at the first
 * write, or by one rank while the others wait for its window. Here it is asked in time. */
static bool room_for(uint64_t bytes, uint64_t *room)
{
    struct statvfs fs;

    if (access(SHM_FOLDER, W_OK) != 0 || statvfs(SHM_FOLDER, &fs) != 0) return true; /* not used */
    *room = (uint64_t)fs.f_bavail * fs.f_frsize;
    return *room >= bytes;
}

/* Rank 0, once a process. */
static void tell(int rank, uint64_t bytes, uint64_t room)
{
    static bool told = false;
    if (rank != 0 || told) return;
    told = true;
    base_log(BASE_LOG_WARN,
             "too little room in " SHM_FOLDER ": the ranks of this machine want to share %llu KiB, "
             "%llu KiB are free. They send messages instead, which is slower; enlarge it (docker, "
             "podman: --shm-size 256m; mount -o remount,size=256m " SHM_FOLDER ")",
             (unsigned long long)((bytes + SHM_BESIDES + 1023) / 1024),
             (unsigned long long)(room / 1024));
}

/* Does every rank of the host see room for the windows of all? */
static base_status_t ask_room(MPI_Comm comm, uint64_t bytes, int rank, int *all_good,
                              base_err_t *err)
{
    uint64_t      room = 0;
    int           good = room_for(bytes + SHM_BESIDES, &room) ? 1 : 0;
    base_status_t st =
        comm_check(MPI_Allreduce(&good, all_good, 1, MPI_INT, MPI_MIN, comm), "MPI_Allreduce", err);
    if (st == BASE_OK && *all_good == 0) tell(rank, bytes, room);
    return st;
}

/* How a rank's part of the window came out; the least is that of all. */
typedef enum { SHM_FULL, SHM_NONE, SHM_GOOD } shm_state_t;

/* Blocks for the own part, whose room another program may have taken since it was asked for: told
 * by Linux 5.14 and newer, where writing would end the process. Then zeros. */
static shm_state_t fill_part(uint8_t *part, size_t bytes)
{
#ifdef MADV_POPULATE_WRITE
    const uintptr_t page  = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = (uintptr_t)part / page * page;
    const size_t    whole = (uintptr_t)part + bytes - begin;
    if (madvise(part - ((uintptr_t)part - begin), whole, MADV_POPULATE_WRITE) != 0 &&
        (errno == EFAULT || errno == ENOMEM))
        return SHM_FULL;
#endif
    memset(part, 0, bytes);
    return SHM_GOOD;
}

base_status_t comm_shm_open(MPI_Comm comm, size_t bytes, comm_shm_t *shm, base_err_t *err)
{
    uint8_t     **parts = NULL;
    void         *own = NULL, *memory = NULL;
    int           size = 0, rank = 0, all_good = 0, state = SHM_GOOD, least = SHM_NONE;
    base_status_t st = BASE_OK;

    shm->win   = MPI_WIN_NULL;
    shm->parts = NULL;
    st         = comm_check(MPI_Comm_size(comm, &size), "MPI_Comm_size", err);
    if (st == BASE_OK) st = comm_check(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank", err);
    if (st != BASE_OK) return st;
    bytes = base_round_up(bytes, COMM_LINE) + COMM_LINE; /* a window may begin anywhere */
    st    = ask_room(comm, (uint64_t)bytes * (uint64_t)size, rank, &all_good, err);
    if (st != BASE_OK || all_good == 0) return st;
    if (base_alloc(&memory, (size_t)size, sizeof(uint8_t *), "shared memory", NULL) != BASE_OK)
        state = SHM_NONE;
    parts = memory;
    if (MPI_Win_allocate_shared((MPI_Aint)bytes, 1, MPI_INFO_NULL, comm, &own, &shm->win) !=
        MPI_SUCCESS) {
        shm->win = MPI_WIN_NULL;
        state    = SHM_NONE;
    }
    for (int r = 0; r < size && state == SHM_GOOD; r++) {
        MPI_Aint length = 0;
        int      unit   = 0;
        void    *base   = NULL;
        if (MPI_Win_shared_query(shm->win, r, &length, &unit, &base) != MPI_SUCCESS ||
            length < (MPI_Aint)bytes)
            state = SHM_NONE;
        else
            parts[r] = align_up(base);
    }
    if (state == SHM_GOOD) state = (int)fill_part(parts[rank], bytes - COMM_LINE);
    /* also the barrier behind which everyone sees zeros */
    st = comm_check(MPI_Allreduce(&state, &least, 1, MPI_INT, MPI_MIN, comm), "MPI_Allreduce", err);
    if (st == BASE_OK && least == SHM_FULL) tell(rank, (uint64_t)bytes * (uint64_t)size, 0);
    if (st == BASE_OK && least == SHM_GOOD) {
        shm->parts = parts;
        parts      = NULL;
    }
    free(parts);
    return st;
}

void comm_shm_close(comm_shm_t *shm)
{
    free(shm->parts);
    shm->parts = NULL;
    if (shm->win != MPI_WIN_NULL) (void)MPI_Win_free(&shm->win);
}
