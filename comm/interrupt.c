/* comm/interrupt.c: SIGINT and SIGTERM as a flag that the loops ask for, and a way out for a
 * process that never asks. mpirun turns Ctrl-C into SIGCONT and SIGTERM for all ranks, and into
 * SIGKILL 1 s later; srun and a plain shell send SIGINT. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "comm/internal.h"

enum {
    SAME_SIGNAL_US = 200000, /* launcher and terminal may both tell us of one Ctrl-C */
    FORCED_EXIT_S  = 2,
};

static atomic_int       first_signal;
static _Atomic uint64_t first_us;

/* Async-signal-safe: atomics, clock_gettime, alarm and _exit only. */
static void on_signal(int number)
{
    int none = 0;
    int code = errno;

    if (number == SIGALRM) {
        _exit(128 + atomic_load(&first_signal));
    } else if (atomic_compare_exchange_strong(&first_signal, &none, number)) {
        atomic_store(&first_us, base_clock_us());
        (void)alarm(FORCED_EXIT_S);
    } else if (comm_interrupt_age_us() > SAME_SIGNAL_US) {
        _exit(128 + none); /* none: the first signal, loaded by the exchange that failed */
    }
    errno = code;
}

base_status_t comm_interrupt_install(base_err_t *err)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGALRM};
    struct sigaction action;
    int              rc = 0;

    memset(&action, 0, sizeof(action));
    (void)sigemptyset(&action.sa_mask);
    action.sa_handler = on_signal; /* no SA_RESTART: a read from the terminal must end too */
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]) && rc == 0; i++)
        rc = sigaction(numbers[i], &action, NULL);
    action.sa_handler = SIG_IGN;
    if (rc == 0) rc = sigaction(SIGPIPE, &action, NULL);
    if (rc != 0) return base_fail(err, BASE_ERR_SYSTEM, "sigaction: %s", strerror(errno));
    return BASE_OK;
}

void comm_interrupt_done(void)
{
    (void)alarm(0);
}

uint64_t comm_interrupt_age_us(void)
{
    uint64_t since = atomic_load(&first_us);
    uint64_t now   = 0;

    if (since == 0) return 0;
    now = base_clock_us();
    return now > since ? now - since : 1;
}

bool comm_interrupted(void)
{
    return atomic_load_explicit(&first_signal, memory_order_relaxed) != 0;
}

int comm_interrupt_exit(void)
{
    int number = atomic_load(&first_signal);
    return number == 0 ? 0 : 128 + number;
}
