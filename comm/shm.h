/* comm/shm.h
 * Memory shared by the ranks of one host. Only for comm's own files. */
#ifndef TRIREME_COMM_SHM_H
#define TRIREME_COMM_SHM_H

#include <mpi.h>

#include "base/status.h"
#include "comm/event.h"

typedef struct {
    MPI_Win   win;
    uint8_t **parts; /* of each rank of the communicator; NULL: there is no shared memory */
} comm_shm_t;

/* `bytes` of zeroed memory for each rank of `comm`, whose ranks share a host; 64-byte aligned.
 * Where the system has none to give, shm->parts is NULL on all ranks and the status OK.
 * Status: OK | MEMORY | PEER. Collective over comm. */
base_status_t comm_shm_open(MPI_Comm comm, size_t bytes, comm_shm_t *shm, base_err_t *err);
/* Accepts one that was never opened (win MPI_WIN_NULL). Collective. */
void comm_shm_close(comm_shm_t *shm);

#endif
