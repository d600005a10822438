/* comm/event.h
 * A number in shared memory that only grows, on which other processes of the host wait: looking at
 * it for a while, then asleep in the kernel. Without MPI. Only for comm's own files. */
#ifndef TRIREME_COMM_EVENT_H
#define TRIREME_COMM_EVENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { COMM_LINE = 64 };

typedef struct {
    _Alignas(COMM_LINE) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
} comm_event_t;
_Static_assert(sizeof(comm_event_t) == COMM_LINE, "one cache line");

/* Add 1, and wake the sleepers if the value then is >= wake_at. */
void comm_event_add(comm_event_t *event, uint32_t wake_at);
/* Add 1 and wake the sleepers. One writer, or it does not matter which of them. */
void comm_event_ring(comm_event_t *event);
/* Wait until value >= target, in the arithmetic modulo 2^32. spin: there is a CPU for whoever is to
 * add, so look for a while before sleeping. A long wait calls idle(arg) each ms; idle may be
 * NULL. */
void comm_event_wait(comm_event_t *event, uint32_t target, bool spin, void (*idle)(void *arg),
                     void *arg);
/* Sleep until value != seen, or for timeout_us, or a signal. */
void comm_event_sleep(comm_event_t *event, uint32_t seen, uint64_t timeout_us);

#endif
