/* worker/machine.c: small text files of /proc and /sys, and the interfaces. */
#include "worker/machine.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/limits.h"

enum { PATH_BYTES = 4096, LINE_BYTES = 1024 };

/* ---- files ----------------------------------------------------------------------------------- */

static FILE *open_at(const char *root, const char *path)
{
    char full[PATH_BYTES];
    int  n = snprintf(full, sizeof(full), "%s%s", root, path);
    return n < 0 || (size_t)n >= sizeof(full) ? NULL : fopen(full, "re");
}

/* First line of a file, without its newline. False: no such file. */
static bool first_line(const char *root, const char *path, char *line, size_t bytes)
{
    FILE *f  = open_at(root, path);
    bool  ok = f != NULL && fgets(line, (int)bytes, f) != NULL;
    if (f != NULL) (void)fclose(f);
    if (ok) line[strcspn(line, "\n")] = '\0';
    return ok;
}

/* "Key:   123 kB" of a file such as /proc/meminfo, in bytes; 0: not there. */
static uint64_t kib_of(const char *root, const char *path, const char *key)
{
    char     line[LINE_BYTES];
    size_t   n     = strlen(key);
    uint64_t bytes = 0;
    FILE    *f     = open_at(root, path);
    if (f == NULL) return 0;
    while (fgets(line, sizeof(line), f) != NULL)
        if (strncmp(line, key, n) == 0 && line[n] == ':') {
            bytes = strtoull(line + n + 1, NULL, 10) * 1024;
            break;
        }
    (void)fclose(f);
    return bytes;
}

/* The word in brackets: "always [madvise] never". */
static void bracketed(const char *root, const char *path, char *word, size_t bytes)
{
    char        line[LINE_BYTES];
    const char *from = NULL;
    if (!first_line(root, path, line, sizeof(line)) || (from = strchr(line, '[')) == NULL) return;
    (void)snprintf(word, bytes, "%.*s", (int)strcspn(from + 1, "]"), from + 1);
}

/* ---- control groups -------------------------------------------------------------------------- */

/* Is `word` in the list "cpu,cpuacct"? */
static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (; *list != '\0'; list += strcspn(list, ","), list += *list == ',')
        if (strncmp(list, word, n) == 0 && (list[n] == ',' || list[n] == '\0')) return true;
    return false;
}

/* This process's group for a controller, as a folder under /sys/fs/cgroup. *v2: the unified
 * hierarchy. Lines of /proc/self/cgroup are "number:controllers:path". */
static bool group_of(const char *root, const char *controller, char *path, size_t bytes, bool *v2)
{
    char  line[LINE_BYTES];
    bool  found = false;
    FILE *f     = open_at(root, "/proc/self/cgroup");
    if (f == NULL) return false;
    while (fgets(line, sizeof(line), f) != NULL) {
        char *list = strchr(line, ':');
        char *at   = list == NULL ? NULL : strchr(list + 1, ':');
        if (at == NULL) continue;
        *at++                 = '\0';
        at[strcspn(at, "\n")] = '\0';
        bool unified          = list[1] == '\0';
        if (unified ? found : !listed(list + 1, controller)) continue; /* v1 wins where both are */
        found = true;
        *v2   = unified;
        (void)snprintf(path, bytes, "/sys/fs/cgroup%s%s%s", unified ? "" : "/",
                       unified ? "" : controller, strcmp(at, "/") == 0 ? "" : at);
        if (!unified) break;
    }
    (void)fclose(f);
    return found;
}

/* Call `take` for the group and all above it: each may hold a limit. In a container the path may
 * belong to the world outside; the folders that are not there say nothing. */
static void each_group(const char *root, const char *controller,
                       void (*take)(const char *root, const char *folder, bool v2,
                                    worker_machine_t *m),
                       worker_machine_t *m)
{
    char        path[PATH_BYTES / 2];
    bool        v2   = false;
    const char *base = "/sys/fs/cgroup";
    if (!group_of(root, controller, path, sizeof(path), &v2)) return;
    while (strlen(path) >= strlen(base)) {
        take(root, path, v2, m);
        char *slash = strrchr(path, '/');
        if (slash == NULL) break;
        *slash = '\0';
    }
}

static bool value_of(const char *root, const char *folder, const char *name, char *line,
                     size_t bytes)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return first_line(root, path, line, bytes);
}

static void take_memory(const char *root, const char *folder, bool v2, worker_machine_t *m)
{
    char line[LINE_BYTES];
    if (!value_of(root, folder, v2 ? "memory.max" : "memory.limit_in_bytes", line, sizeof(line)))
        return;
    uint64_t limit = strtoull(line, NULL, 10); /* "max" gives 0 */
    if (limit == 0 || limit >= UINT64_C(1) << 60) return;
    if (m->mem_limit != 0 && m->mem_limit <= limit) return;
    m->mem_limit = limit;
    m->mem_used  = 0;
    if (value_of(root, folder, v2 ? "memory.current" : "memory.usage_in_bytes", line, sizeof(line)))
        m->mem_used = strtoull(line, NULL, 10);
}

static void take_cpu(const char *root, const char *folder, bool v2, worker_machine_t *m)
{
    char   line[LINE_BYTES];
    double quota  = 0;
    double period = 0;
    if (!value_of(root, folder, v2 ? "cpu.max" : "cpu.cfs_quota_us", line, sizeof(line))) return;
    if (v2) { /* "max 100000" or "50000 100000" */
        if (sscanf(line, "%lf %lf", &quota, &period) != 2) return;
    } else {
        quota = strtod(line, NULL);
        if (!value_of(root, folder, "cpu.cfs_period_us", line, sizeof(line))) return;
        period = strtod(line, NULL);
    }
    if (quota <= 0 || period <= 0) return;
    if (m->cpu_quota <= 0 || quota / period < m->cpu_quota) m->cpu_quota = quota / period;
}

/* ---- interfaces ------------------------------------------------------------------------------ */

static bool plausible(const struct ifaddrs *a)
{
    static const char *const inner[] = {"docker", "virbr",  "cni", "flannel", "cali",
                                        "veth",   "podman", "lxc", "br-",     "kube"};
    if ((a->ifa_flags & IFF_UP) == 0 || (a->ifa_flags & IFF_LOOPBACK) != 0) return false;
    for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]); i++)
        if (strncmp(a->ifa_name, inner[i], strlen(inner[i])) == 0) return false;
    return true;
}

static void read_nets(worker_machine_t *m)
{
    struct ifaddrs *list = NULL;
    char            line[LINE_BYTES];
    if (getifaddrs(&list) != 0) return;
    for (const struct ifaddrs *a = list; a != NULL && m->n_nets < WORKER_MACHINE_NETS;
         a                       = a->ifa_next) {
        struct sockaddr_in address;
        worker_net_t      *net = &m->nets[m->n_nets];
        if (a->ifa_addr == NULL || a->ifa_addr->sa_family != AF_INET) continue;
        if ((a->ifa_flags & IFF_LOOPBACK) != 0) continue;
        memcpy(&address, a->ifa_addr, sizeof(address));
        (void)snprintf(net->name, sizeof(net->name), "%s", a->ifa_name);
        if (inet_ntop(AF_INET, &address.sin_addr, net->ipv4, sizeof(net->ipv4)) == NULL) continue;
        net->plausible = plausible(a);
        char path[128];
        (void)snprintf(path, sizeof(path), "/sys/class/net/%s/speed", net->name);
        if (first_line("", path, line, sizeof(line))) {
            long mbit = strtol(line, NULL, 10);
            net->mbit = mbit > 0 ? (uint32_t)mbit : 0;
        }
        m->n_nets++;
    }
    freeifaddrs(list);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void read_names(worker_machine_t *m)
{
    char           line[LINE_BYTES];
    struct utsname u;
    FILE          *f = open_at("", "/proc/cpuinfo");
    if (gethostname(m->host, sizeof(m->host) - 1) != 0) m->host[0] = '\0';
    if (uname(&u) == 0)
        (void)snprintf(m->kernel, sizeof(m->kernel), "%.20s %.40s", u.sysname, u.release);
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
            char *at              = strchr(line, ':') + 1;
            at[strcspn(at, "\n")] = '\0';
            (void)snprintf(m->cpu, sizeof(m->cpu), "%s", at + strspn(at, " \t"));
            break;
        }
    if (f != NULL) (void)fclose(f);
}

void worker_machine_read(const char *root, worker_machine_t *out)
{
    memset(out, 0, sizeof(*out));
    out->mem_total     = kib_of(root, "/proc/meminfo", "MemTotal");
    out->mem_available = kib_of(root, "/proc/meminfo", "MemAvailable");
    out->swap_total    = kib_of(root, "/proc/meminfo", "SwapTotal");
    uint64_t swap_free = kib_of(root, "/proc/meminfo", "SwapFree");
    out->swap_used     = out->swap_total > swap_free ? out->swap_total - swap_free : 0;
    out->self_swapped  = kib_of(root, "/proc/self/status", "VmSwap");
    bracketed(root, "/sys/kernel/mm/transparent_hugepage/enabled", out->huge_pages,
              sizeof(out->huge_pages));
    (void)first_line(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", out->governor,
                     sizeof(out->governor));
    each_group(root, "memory", take_memory, out);
    each_group(root, "cpu", take_cpu, out);
    if (root[0] != '\0') return;
    read_names(out);
    read_nets(out);
}

uint64_t worker_machine_allowed(const worker_machine_t *m)
{
    return m->mem_limit != 0 && m->mem_limit < m->mem_total ? m->mem_limit : m->mem_total;
}

int worker_machine_quota_threads(const worker_machine_t *m, int n_ranks)
{
    double each = m->cpu_quota / n_ranks;
    if (m->cpu_quota <= 0 || each >= LIMIT_THREADS) return 0;
    return each < 1 ? 1 : (int)(each + 0.01); /* 3.999 is meant as 4 */
}

uint64_t worker_machine_free(const worker_machine_t *m)
{
    uint64_t left = m->mem_limit > m->mem_used ? m->mem_limit - m->mem_used : 0;
    return m->mem_limit != 0 && left < m->mem_available ? left : m->mem_available;
}
