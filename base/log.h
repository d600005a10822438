/* base/log.h
 * Log lines and progress, always on stderr: stdout belongs to results.
 * Under mpirun isatty(stdout) lies, so only stderr is asked (and --log-colors decides). */
#ifndef TRIREME_BASE_LOG_H
#define TRIREME_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

typedef enum { BASE_LOG_ERROR, BASE_LOG_WARN, BASE_LOG_INFO, BASE_LOG_DEBUG } base_log_level_t;

/* Set once at start, before threads exist. rank < 0: no "[rank]" prefix. */
void base_log_setup(base_log_level_t level, bool colors, int rank);

/* One line "trireme: [rank 3] warning: ..." in one write(2), so ranks do not mix lines. What could
 * drive a terminal becomes '?' (base/text.h): names out of files may be given as they are.
 * Any thread. Async-signal-unsafe. */
void base_log(base_log_level_t level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Progress of something that takes over a second: rate-limited to 5 a second, overwritten in place
 * on a terminal, at most one line each 2 s elsewhere. done == total ends the line.
 * Silent when progress is off. seldom_ms > 0, for logs that nobody watches: no line before so many
 * milliseconds have passed, no more than one in that time, none for the end.
 * base_progress_bytes: of bytes, with their number, the rate and the
 * time left, and only once a second has passed since the first call; one such work at a time. Its
 * end may be any done == total. */
void base_progress_setup(bool on, uint32_t seldom_ms);
void base_progress(const char *what, uint64_t done, uint64_t total);
void base_progress_bytes(const char *what, uint64_t done, uint64_t total);

/* Monotonic clock, microseconds. */
uint64_t base_clock_us(void);

#endif
