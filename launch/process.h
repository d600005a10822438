/* launch/process.h: what the system says of this process. */
#ifndef TRIREME_LAUNCH_PROCESS_H
#define TRIREME_LAUNCH_PROCESS_H

#include <stdint.h>

/* Resident memory now, anonymous and shared; mapped file pages not counted. 0: not known. */
uint64_t process_anonymous_bytes(void);
/* Share of the anonymous memory that lies in huge pages, 0 to 1. */
double process_huge_share(void);

#endif
