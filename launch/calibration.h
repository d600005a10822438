/* launch/calibration.h
 * What this machine measured of its packed formats, kept in a file for the next start:
 * $XDG_CACHE_HOME/trireme or ~/.cache/trireme. TRIREME_CALIBRATION=off: no such file is read or
 * written. Without a file, or with one that does not fit, there is just more to measure: nothing
 * here is an error. Local. */
#ifndef TRIREME_LAUNCH_CALIBRATION_H
#define TRIREME_LAUNCH_CALIBRATION_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/measure.h"

enum { CALIBRATION_KEY_BYTES = 768, CALIBRATION_FILE_BYTES = 2048 };

/* What the figures hold for: CPU, cores of the host in use, ranks on the host, threads a rank,
 * strongest kernel variant, kernels, program. Lines of text. */
void calibration_key(int cores, int ranks, int threads, const char *cpu, char *key,
                     size_t key_bytes);

/* Figures of all ranks of the host together, to and from the bytes of a file. parse: of bytes that
 * may be anything; false if they are not for this key, or damaged. format: bytes written. */
size_t calibration_format(const char *key, const worker_pack_rate_t *rates, char *out,
                          size_t out_bytes);
bool   calibration_parse(const char *key, const char *bytes, size_t n, worker_pack_rate_t *rates);

/* From and to the file; false: there is none, none is wanted, or it cannot be. save makes the
 * folders, and the file appears whole. */
bool calibration_load(const char *key, worker_pack_rate_t *rates);
bool calibration_save(const char *key, const worker_pack_rate_t *rates);

#endif
