/* base/log.c: log lines and progress on stderr. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

enum { LINE_BYTES = 1024 };

static struct {
    base_log_level_t level;
    bool             colors;
    bool             progress;
    uint64_t         seldom_us; /* 0: progress soon and often */
    int              rank;
} log_config = {BASE_LOG_INFO, false, false, 0, -1};

static _Atomic uint64_t progress_next_us;

void base_log_setup(base_log_level_t level, bool colors, int rank)
{
    log_config.level  = level;
    log_config.colors = colors;
    log_config.rank   = rank;
}

static void write_all(const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(STDERR_FILENO, text, bytes);
        if (n <= 0) return; /* nowhere left to complain */
        text += n;
        bytes -= (size_t)n;
    }
}

void base_log(base_log_level_t level, const char *format, ...)
{
    static const char *const names[]  = {"error: ", "warning: ", "", "debug: "};
    static const char *const colors[] = {"\033[31m", "\033[33m", "", "\033[2m"};
    char                     line[LINE_BYTES];
    int                      n = 0;
    va_list                  args;

    if (level > log_config.level) return;
    n = snprintf(line, sizeof(line), "%strireme: ", log_config.colors ? colors[level] : "");
    if (log_config.rank >= 0)
        n += snprintf(line + n, sizeof(line) - (size_t)n, "[rank %d] ", log_config.rank);
    n += snprintf(line + n, sizeof(line) - (size_t)n, "%s", names[level]);
    va_start(args, format);
    int m = vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
    va_end(args);
    const int begin = n;
    n += m < 0 ? 0 : m;
    if ((size_t)n > sizeof(line) - 8) n = (int)sizeof(line) - 8; /* room for reset and newline */
    base_text_clean(line + begin, (size_t)(n - begin));
    n += snprintf(line + n, sizeof(line) - (size_t)n, "%s\n", log_config.colors ? "\033[0m" : "");
    write_all(line, (size_t)n);
}

void base_progress_setup(bool on, uint32_t seldom_ms)
{
    log_config.progress  = on;
    log_config.seldom_us = (uint64_t)seldom_ms * 1000;
    atomic_store(&progress_next_us, seldom_ms == 0 ? 0 : base_clock_us() + log_config.seldom_us);
}

/* Between two lines. */
static uint64_t progress_step_us(bool tty)
{
    return log_config.seldom_us > 0 ? log_config.seldom_us : tty ? 200000 : 2000000;
}

void base_progress(const char *what, uint64_t done, uint64_t total)
{
    char     line[LINE_BYTES];
    bool     tty  = isatty(STDERR_FILENO) != 0;
    uint64_t now  = base_clock_us();
    uint64_t next = atomic_load(&progress_next_us);

    if (!log_config.progress || total == 0) return;
    if ((done < total || log_config.seldom_us > 0) && now < next) return;
    if (!atomic_compare_exchange_strong(&progress_next_us, &next, now + progress_step_us(tty)))
        return;
    int n = snprintf(line, sizeof(line), "%s%s %3u %%%s", tty ? "\r" : "", what,
                     (unsigned)(done * 100 / total), tty && done < total ? "" : "\n");
    if (n > 0) write_all(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static _Atomic uint64_t bytes_begin_us; /* 0: nothing under way */
static _Atomic bool     bytes_shown;

void base_progress_bytes(const char *what, uint64_t done, uint64_t total)
{
    const bool     tty   = isatty(STDERR_FILENO) != 0;
    const uint64_t now   = base_clock_us();
    uint64_t       begin = atomic_load(&bytes_begin_us);
    uint64_t       next  = atomic_load(&progress_next_us);
    char           line[LINE_BYTES];

    if (!log_config.progress || total == 0) return;
    if (done == total) {
        if (atomic_exchange(&bytes_shown, false) && tty) write_all("\n", 1);
        atomic_store(&bytes_begin_us, 0);
        return;
    }
    if (begin == 0) {
        atomic_store(&bytes_begin_us, now);
        return;
    }
    if (now - begin < (log_config.seldom_us > 0 ? log_config.seldom_us : 1000000) || now < next ||
        done == 0)
        return;
    if (!atomic_compare_exchange_strong(&progress_next_us, &next, now + progress_step_us(tty)))
        return;
    const double rate = (double)done * 1e6 / (double)(now - begin);
    int          n = snprintf(line, sizeof(line), "%s%s %.2f of %.2f GB, %.2f GB/s, %.0f s left %s",
                     tty ? "\r" : "", what, (double)done * 1e-9, (double)total * 1e-9, rate * 1e-9,
                              (double)(total - done) / rate, tty ? "  " : "\n");
    atomic_store(&bytes_shown, true);
    if (n > 0) write_all(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

uint64_t base_clock_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}
