/* launch/stop.h
 * SIGINT, SIGTERM and SIGHUP for the commands that write files and start no engine. */
#ifndef TRIREME_LAUNCH_STOP_H
#define TRIREME_LAUNCH_STOP_H

#include <stdatomic.h>

#include "base/status.h"

/* From now on these signals set a number that the work asks for between two jobs, so that the
 * half-written file can be removed. The number: 0, or the signal's. One thread, once. */
const atomic_int *stop_catch(void);

/* As out_fail(), but 128 and its number for a signal. */
int stop_fail(const base_err_t *err);

#endif
