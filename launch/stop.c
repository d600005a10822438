/* launch/stop.c: signals as a flag. */
#include "launch/stop.h"

#include <signal.h>
#include <string.h>

#include "launch/output.h"

static atomic_int stop;

static void on_signal(int number)
{
    atomic_store(&stop, number);
}

const atomic_int *stop_catch(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    action.sa_flags   = SA_RESTART;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        (void)sigaction(numbers[i], &action, NULL);
    return &stop;
}

int stop_fail(const base_err_t *err)
{
    const int rc = out_fail(err);
    return err->code == BASE_ERR_INTERRUPTED ? 128 + atomic_load(&stop) : rc;
}
