/* tests/mpi/control.c: control messages, start-up messages, records, agreement, sleep.
 * np: 1 2 3 5 8
 * timeout: 300 */
#include <sys/resource.h>
#include <time.h>

#include "base/limits.h"
#include "tests/mpi/check.h"

static void fill(uint8_t *data, size_t bytes, uint32_t seed)
{
    for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)(i * 7 + (i >> 9) + seed);
}

static bool same(const uint8_t *data, size_t bytes, uint32_t seed)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != (uint8_t)(i * 7 + (i >> 9) + seed)) return false;
    return true;
}

static void check_message(size_t bytes, uint8_t *buf, uint32_t seed)
{
    base_err_t err;
    size_t     got = SIZE_MAX;

    if (comm_rank(check_world) == 0) {
        fill(buf, bytes, seed);
        CHECK_OK(comm_control_send(check_world, buf, bytes, &err));
        return;
    }
    CHECK_OK(comm_control_recv(check_world, buf, LIMIT_MESSAGE_BYTES, &got, &err));
    CHECK(got == bytes && same(buf, bytes, seed), "%zu bytes, got %zu", bytes, got);
}

/* A message that does not fit is refused, and the next one arrives whole. */
static void check_too_long(uint8_t *buf, size_t bytes)
{
    base_err_t err;
    size_t     got = 0;

    if (comm_rank(check_world) == 0) {
        fill(buf, bytes, 1);
        CHECK_OK(comm_control_send(check_world, buf, bytes, &err));
        CHECK(comm_control_send(check_world, buf, (size_t)LIMIT_MESSAGE_BYTES + 1, &err) ==
                  BASE_ERR_LIMIT,
              "over the limit");
    } else {
        memset(buf, 0, bytes + 1);
        CHECK(comm_control_recv(check_world, buf, bytes - 1, &got, &err) == BASE_ERR_LIMIT, "fits");
        CHECK(buf[bytes - 1] == 0, "overrun");
    }
    check_message(10, buf, 9);
}

static void check_scatter(void)
{
    static const size_t sizes[] = {0, 1, 3000, 262144, 262145, 1000000, 77, 5};
    int                 size = comm_size(check_world), rank = comm_rank(check_world);
    const void        **messages = check_alloc((size_t)size * sizeof(void *));
    uint8_t           **owned    = check_alloc((size_t)size * sizeof(void *));
    size_t             *lengths  = check_alloc((size_t)size * sizeof(size_t));
    void               *out      = NULL;
    size_t              bytes    = 0;
    base_err_t          err;

    for (uint32_t round = 0; round < 8; round++) {
        size_t mine = sizes[((uint32_t)rank + round) % 8];
        for (int r = 0; r < size; r++) {
            lengths[r] = sizes[((uint32_t)r + round) % 8];
            owned[r]   = rank == 0 ? check_alloc(lengths[r]) : NULL;
            if (rank == 0) fill(owned[r], lengths[r], (uint32_t)r + round);
            messages[r] = owned[r];
        }
        CHECK_OK(comm_control_scatter(check_world, rank == 0 ? messages : NULL,
                                      rank == 0 ? lengths : NULL, &out, &bytes, &err));
        CHECK(bytes == mine && same(out, mine, (uint32_t)rank + round), "%zu bytes", bytes);
        free(out);
        for (int r = 0; r < size; r++) free(owned[r]);
    }
    free(lengths);
    free(owned);
    free(messages);
}

static void check_records(size_t bytes)
{
    size_t     size = (size_t)comm_size(check_world), rank = (size_t)comm_rank(check_world);
    uint8_t   *in  = check_alloc(bytes);
    uint8_t   *out = rank == 0 ? check_alloc(size * bytes) : NULL;
    base_err_t err;

    fill(in, bytes, (uint32_t)rank);
    CHECK_OK(comm_gather_records(check_world, in, bytes, out, &err));
    for (size_t r = 0; rank == 0 && r < size; r++)
        CHECK(same(out + r * bytes, bytes, (uint32_t)r), "record %zu of %zu bytes", r, bytes);
    free(out);
    free(in);
}

static void check_agreement(void)
{
    int        size = comm_size(check_world), rank = comm_rank(check_world);
    base_err_t err;
    char       want[BASE_ERR_TEXT_BYTES];

    CHECK(comm_agree(check_world, BASE_OK, &err) == BASE_OK, "all well");
    CHECK(comm_agree(check_world, BASE_OK, NULL) == BASE_OK, "all well, no text");
    for (int bad = 0; bad < size; bad++) { /* one fails */
        base_status_t st = BASE_OK;
        memset(&err, 0, sizeof(err));
        if (rank == bad) st = base_fail(&err, BASE_ERR_MEMORY, "rank has %d bytes", bad + 100);
        st = comm_agree(check_world, st, &err);
        (void)snprintf(want, sizeof(want),
                       size > 1 ? "rank %d: rank has %d bytes" : "%.0drank has %d bytes", bad,
                       bad + 100);
        CHECK(st == BASE_ERR_MEMORY && err.code == st, "status %d", (int)st);
        CHECK(strcmp(err.text, want) == 0, "'%s', wanted '%s'", err.text, want);
        st = comm_agree(check_world, st, &err); /* once more: the rank that failed stays named */
        CHECK(st == BASE_ERR_MEMORY && strcmp(err.text, want) == 0, "again: '%s'", err.text);
    }
    /* all fail, each in its own way; the highest exit status, then the lowest rank decides */
    static const base_status_t kinds[] = {BASE_ERR_MEMORY, BASE_ERR_USAGE, BASE_ERR_INPUT,
                                          BASE_ERR_IO,     BASE_ERR_PEER,  BASE_ERR_INPUT};
    base_status_t              st      = base_fail(&err, kinds[rank % 6], "kind %d", rank % 6);
    st                                 = comm_agree(check_world, st, &err);
    int owner                          = size == 1 ? 0 : size == 2 ? 1 : 2;
    CHECK(st == kinds[owner], "status %d", (int)st);
    (void)snprintf(want, sizeof(want), "kind %d", owner);
    CHECK(strstr(err.text, want) != NULL, "'%s'", err.text);
    /* an interrupt wins over all else; no text at all on the rank that brings it */
    st = comm_agree(check_world, rank == size - 1 ? BASE_ERR_INTERRUPTED : BASE_ERR_INPUT, NULL);
    CHECK(st == BASE_ERR_INTERRUPTED, "status %d", (int)st);
    /* a text of full length stays one */
    memset(err.text, 'x', sizeof(err.text));
    err.text[sizeof(err.text) - 1] = '\0';
    err.code                       = BASE_ERR_INPUT;
    st                             = comm_agree(check_world, BASE_ERR_INPUT, &err);
    CHECK(st == BASE_ERR_INPUT && strlen(err.text) == sizeof(err.text) - 1, "%zu",
          strlen(err.text));
}

/* Figures on both ends of a pair, zeros elsewhere; pairs without a common rank at once. */
static void check_link(void)
{
    int         size = comm_size(check_world), rank = comm_rank(check_world);
    comm_link_t link;
    base_err_t  err;

    for (int a = 0; a + 1 < size; a += 2) {
        CHECK_OK(comm_measure_link(check_world, a, a + 1, &link, &err));
        if (rank == a || rank == a + 1)
            CHECK(link.latency > 0 && link.latency < 1 && link.bytes_per_s > 1e6, "%g s, %g B/s",
                  link.latency, link.bytes_per_s);
        else
            CHECK(link.latency == 0 && link.bytes_per_s == 0, "rank %d is no end of it", rank);
    }
    if (size > 2) CHECK_OK(comm_measure_link(check_world, size - 1, 0, &link, &err));
}

static uint64_t cpu_us(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* A rank that waits leaves the CPU to others. */
static void check_sleep(uint8_t *buf)
{
    struct timespec second = {1, 0};
    base_err_t      err;

    CHECK_OK(comm_barrier(check_world, &err));
    uint64_t cpu = cpu_us(), clock = base_clock_us();
    if (comm_rank(check_world) == 0) (void)nanosleep(&second, NULL);
    check_message(100, buf, 3);
    cpu   = cpu_us() - cpu;
    clock = base_clock_us() - clock;
    CHECK(cpu < 200000, "%" PRIu64 " us of CPU in a wait of %" PRIu64 " us", cpu, clock);
    cpu = cpu_us();
    if (comm_rank(check_world) == 0) (void)nanosleep(&second, NULL);
    CHECK_OK(comm_barrier(check_world, &err));
    cpu = cpu_us() - cpu;
    CHECK(cpu < 200000, "%" PRIu64 " us of CPU in a barrier of 1 s", cpu);
}

int main(void)
{
    static const size_t sizes[] = {
        0,    1,    2,      100,    2039,   2040,    2041,
        2048, 4096, 262144, 264184, 264185, 1000003, LIMIT_MESSAGE_BYTES};
    base_err_t err;
    int        ranks_of_hosts = 0;

    CHECK_OK(comm_world_open(&check_world, &err));
    uint8_t *buf = check_alloc((size_t)LIMIT_MESSAGE_BYTES + 1);
    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) check_message(sizes[i], buf, i);
    for (uint32_t i = 0; i < 500; i++) check_message(i % 97, buf, i);
    check_too_long(buf, 1000);
    check_too_long(buf, 500000);
    check_scatter();
    check_records(0);
    check_records(1);
    check_records(40);
    check_records(100000);
    check_agreement();
    check_link();
    check_sleep(buf);

    int local = comm_local_rank(check_world) == 0 ? comm_local_size(check_world) : 0;
    int all[64];
    CHECK_OK(comm_gather_records(check_world, &local, sizeof(local), all, &err));
    for (int r = 0; r < comm_size(check_world) && comm_rank(check_world) == 0; r++)
        ranks_of_hosts += all[r];
    CHECK(comm_rank(check_world) != 0 || ranks_of_hosts == comm_size(check_world), "hosts");
    CHECK(comm_host_index(check_world) < comm_host_count(check_world), "host index");
    CHECK(!comm_interrupted() && comm_interrupt_exit() == 0, "no signal came");
    free(buf);
    comm_world_close(&check_world);
    comm_world_close(&check_world);
    return 0;
}
