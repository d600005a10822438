/* worker/measure_internal.h: what the files of the measurements share. */
#ifndef TRIREME_WORKER_MEASURE_INTERNAL_H
#define TRIREME_WORKER_MEASURE_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "worker/measure.h"

enum { WORKER_MEASURE_LEAST = 2 << 20 }; /* bytes of a thread, at least */

/* Features of this CPU up to a variant; NULL: all. */
uint32_t worker_measure_features(const char *cpu);

/* Random bytes that are small positive halves and floats whatever the stored type: no NaN, no
 * subnormals. bytes % 8 == 0. */
void worker_measure_fill(uint8_t *p, size_t bytes);

/* The meter's memory, filled by worker_measure_fill; thread t of n reads its worker_share in units
 * of KERN_PROBE_BYTES. */
uint8_t *worker_meter_memory(worker_meter_t *meter, size_t *bytes);

/* The way of reading that was the fastest in the last look. */
int worker_meter_way(const worker_meter_t *meter);

/* One thread of the team, inside a job of it: read that way for so long; bytes per second. */
double worker_meter_span(worker_meter_t *meter, int thread, int way, uint64_t span_us);

#endif
