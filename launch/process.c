/* launch/process.c: files of /proc/self. */
#include "launch/process.h"

#include <stdio.h>

uint64_t process_anonymous_bytes(void)
{
    char     line[256];
    uint64_t kib = 0;
    FILE    *f   = fopen("/proc/self/status", "r");
    if (f == NULL) return 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        unsigned long long v = 0;
        if (sscanf(line, "RssAnon: %llu", &v) == 1 || sscanf(line, "RssShmem: %llu", &v) == 1)
            kib += v;
    }
    (void)fclose(f);
    return kib * 1024;
}

double process_huge_share(void)
{
    char   line[256];
    double all  = 0;
    double huge = 0;
    FILE  *f    = fopen("/proc/self/smaps_rollup", "r");
    if (f == NULL) return 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        unsigned long long v = 0;
        if (sscanf(line, "Anonymous: %llu", &v) == 1) all = (double)v;
        if (sscanf(line, "AnonHugePages: %llu", &v) == 1) huge = (double)v;
    }
    (void)fclose(f);
    return all > 0 ? huge / all : 0;
}
