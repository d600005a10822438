/* tests/hosts/relay.c: the wire between emulated hosts.
 *
 *   relay MBIT DELAY_US MTU PID...
 *
 * Makes a TAP device eth0 in the network namespace of each process PID and carries frames between
 * them: each leaves its host at MBIT (0: at once), needs DELAY_US, and enters the other host at
 * MBIT. Says "ready" when all devices are there, ends when its standard input does. A bridge with
 * the kernel's netem would do, but not every kernel has netem. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    HOSTS_MAX = 64,
    QUEUE     = 1 << 12, /* frames on the way to one host */
    AHEAD_NS  = 4000000, /* a host whose own link is booked for longer is not read from */
};

typedef struct {
    uint64_t due;
    size_t   bytes;
    uint8_t *data;
} frame_t;

typedef struct {
    int      fd;
    uint64_t up_free, down_free; /* when its link is free again, in each direction */
    frame_t *queue;              /* frames to it, by due time */
    uint32_t head, count;
} port_t;

static port_t   ports[HOSTS_MAX];
static int      n_ports;
static double   ns_per_byte;
static uint64_t delay_ns;
static size_t   frame_bytes;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void configure(int index, int mtu, const char *name)
{
    struct ifreq r;
    int          s = socket(AF_INET, SOCK_DGRAM, 0);
    if (s < 0) die("socket");
    memset(&r, 0, sizeof(r));
    (void)snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    r.ifr_hwaddr.sa_family  = ARPHRD_ETHER;
    r.ifr_hwaddr.sa_data[0] = 2;
    r.ifr_hwaddr.sa_data[5] = (char)(index + 1);
    if (ioctl(s, SIOCSIFHWADDR, &r) != 0) die("SIOCSIFHWADDR");
    r.ifr_mtu = mtu;
    if (ioctl(s, SIOCSIFMTU, &r) != 0) die("SIOCSIFMTU");
    r.ifr_qlen = 2000;
    if (ioctl(s, SIOCSIFTXQLEN, &r) != 0) die("SIOCSIFTXQLEN");
    (void)close(s);
}

static void open_port(int index, const char *pid, int mtu)
{
    char         path[64];
    struct ifreq r;
    port_t      *p = &ports[index];
    (void)snprintf(path, sizeof(path), "/proc/%s/ns/net", pid);
    int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0) die(path);
    if (setns(ns, CLONE_NEWNET) != 0) die("setns");
    (void)close(ns);
    p->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (p->fd < 0) die("/dev/net/tun");
    memset(&r, 0, sizeof(r));
    (void)snprintf(r.ifr_name, sizeof(r.ifr_name), "eth0");
    r.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (ioctl(p->fd, TUNSETIFF, &r) != 0) die("TUNSETIFF");
    configure(index, mtu, r.ifr_name);
    p->queue = calloc(QUEUE, sizeof(*p->queue));
    if (p->queue == NULL) die("memory");
}

/* Book a frame that left `from` now for the way to `to`. Full queues drop, as switches do. */
static void send_to(port_t *from, port_t *to, const uint8_t *data, size_t bytes, uint64_t left)
{
    frame_t *f       = &to->queue[(to->head + to->count) % QUEUE];
    uint64_t arrives = left + delay_ns;
    (void)from;
    if (to->count == QUEUE) return;
    if (f->data == NULL && (f->data = malloc(frame_bytes)) == NULL) die("memory");
    to->down_free = to->down_free + (uint64_t)((double)bytes * ns_per_byte);
    if (to->down_free < arrives) to->down_free = arrives;
    f->due   = to->down_free;
    f->bytes = bytes;
    memcpy(f->data, data, bytes);
    to->count++;
}

static void take_frame(port_t *from, const uint8_t *data, size_t bytes, uint64_t now)
{
    uint64_t start = from->up_free > now ? from->up_free : now;
    from->up_free  = start + (uint64_t)((double)bytes * ns_per_byte);
    if (bytes < ETH_HLEN) return;
    bool broadcast = (data[0] & 1) != 0;
    int  index     = data[5] - 1;
    for (int i = 0; i < n_ports; i++)
        if (&ports[i] != from && (broadcast || i == index))
            send_to(from, &ports[i], data, bytes, from->up_free);
}

static bool read_port(port_t *p, uint8_t *buf)
{
    uint64_t now  = now_ns();
    bool     some = false;
    for (int i = 0; i < 64 && p->up_free < now + AHEAD_NS; i++) {
        ssize_t n = read(p->fd, buf, frame_bytes);
        if (n <= 0) break;
        take_frame(p, buf, (size_t)n, now);
        some = true;
    }
    return some;
}

/* Deliver what is due; the time of the next, or UINT64_MAX. */
static uint64_t deliver(void)
{
    uint64_t next = UINT64_MAX;
    for (int i = 0; i < n_ports; i++) {
        port_t *p = &ports[i];
        while (p->count > 0 && p->queue[p->head].due <= now_ns()) {
            (void)!write(p->fd, p->queue[p->head].data, p->queue[p->head].bytes);
            p->head = (p->head + 1) % QUEUE;
            p->count--;
        }
        if (p->count > 0 && p->queue[p->head].due < next) next = p->queue[p->head].due;
    }
    return next;
}

/* A wire does not wait for a CPU: before all that computes. */
static void go_first(void)
{
    struct sched_param p = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO, &p) != 0) (void)setpriority(PRIO_PROCESS, 0, -20);
}

static void carry(void)
{
    struct pollfd fds[HOSTS_MAX + 1];
    uint8_t      *buf = malloc(frame_bytes);
    if (buf == NULL) die("memory");
    for (;;) {
        uint64_t        next = deliver();
        uint64_t        now  = now_ns();
        uint64_t        wait = next == UINT64_MAX ? 1000000000u : next > now ? next - now : 0;
        struct timespec t    = {0, 0};
        fds[n_ports]         = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
        for (int i = 0; i < n_ports; i++) {
            bool booked = ports[i].up_free >= now + AHEAD_NS;
            if (booked && ports[i].up_free - now - AHEAD_NS / 2 < wait)
                wait = ports[i].up_free - now - AHEAD_NS / 2;
            fds[i] = (struct pollfd){.fd = booked ? -1 : ports[i].fd, .events = POLLIN};
        }
        t.tv_sec  = (time_t)(wait / 1000000000u);
        t.tv_nsec = (long)(wait % 1000000000u);
        if (ppoll(fds, (nfds_t)n_ports + 1, &t, NULL) < 0 && errno != EINTR) die("ppoll");
        if ((fds[n_ports].revents & (POLLIN | POLLHUP)) != 0) {
            char c;
            if (read(STDIN_FILENO, &c, 1) <= 0) exit(0);
        }
        for (int i = 0; i < n_ports; i++)
            if ((fds[i].revents & POLLIN) != 0) (void)read_port(&ports[i], buf);
    }
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc - 4 > HOSTS_MAX) {
        (void)fprintf(stderr, "usage: relay MBIT DELAY_US MTU PID...\n");
        return 2;
    }
    double mbit = strtod(argv[1], NULL);
    int    mtu  = (int)strtol(argv[3], NULL, 10);
    ns_per_byte = mbit > 0 ? 8000.0 / mbit : 0;
    delay_ns    = (uint64_t)(strtod(argv[2], NULL) * 1000);
    frame_bytes = (size_t)mtu + ETH_HLEN + 4;
    n_ports     = argc - 4;
    (void)prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
    (void)prctl(PR_SET_PDEATHSIG, 9UL, 0UL, 0UL, 0UL);
    for (int i = 0; i < n_ports; i++) open_port(i, argv[4 + i], mtu);
    (void)printf("ready\n");
    (void)fflush(stdout);
    go_first();
    carry();
}
