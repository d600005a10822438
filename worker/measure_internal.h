/* worker/measure_internal.h: what the files of the measurements share. */
#ifndef TRIREME_WORKER_MEASURE_INTERNAL_H
#define TRIREME_WORKER_MEASURE_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

/* Features of this CPU up to a variant; NULL: all. */
uint32_t worker_measure_features(const char *cpu);

/* Random bytes that are small positive halves and floats whatever the stored type: no NaN, no
 * subnormals. bytes % 8 == 0. */
void worker_measure_fill(uint8_t *p, size_t bytes);

#endif
