/* The load generator: keeps K messages in flight on each of N connections to an echo server, checks
 * what comes back, and prints one line of JSON. Its own cost per message is kept at that of the
 * floor: frames are built and masked beforehand, and each read is answered by one write. With
 * --idle it only opens the connections and holds them. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "mask.h"
#include "ring.h"

enum {
    RECEIVE_BYTES = 256 * 1024,
    EVENTS_PER_WAIT = 1024,
    SAMPLE_EVERY = 17, /* prime, so that the sample walks through the ring */
    DRAIN_SECONDS = 10,
    MAX_CONNECTIONS = 1000000,
    MAX_IN_FLIGHT = 65536,
    MAX_SIZE = 64 * 1024 * 1024,
    MAX_RING_BYTES = 1 << 30,
    MAX_CONTROL_PAYLOAD = 125,
    OPCODE_CLOSE = 0x8,
    OPCODE_PING = 0x9,
    OPCODE_PONG = 0xA,
};

static const char usage[] =
    "usage: load (--url ws://ADDRESS:PORT[/PATH] | --port PORT) [options]\n"
    "Measures an echo server, and checks its echoes.\n\n"
    "  --size BYTES       payload of a message (32)\n"
    "  --connections N    (64)\n"
    "  --in-flight K      messages in flight on each connection (1)\n"
    "  --seconds S        length of the measured interval (2)\n"
    "  --warmup S         before it; every echo is compared in full (0.5)\n"
    "  --text             text messages with characters of 1 to 4 bytes, instead of binary\n"
    "  --server-pid PID   also report the CPU time of that process over the interval\n"
    "  --idle             only open the connections, print a line, and hold them until a line or\n"
    "                     the end of standard input\n\n"
    "Prints one line of JSON. Ends with 0; 1: the server misbehaved; 2: it could not be run.\n";

struct options {
    struct endpoint endpoint;
    size_t size;
    uint32_t connections, in_flight;
    double seconds, warmup;
    pid_t server_pid;
    bool text, idle;
};

/* A control frame that is coming, and the Pong that answers it. */
struct control {
    uint8_t opcode, length, received;
    uint8_t payload[MAX_CONTROL_PAYLOAD];
    uint8_t pong[6 + MAX_CONTROL_PAYLOAD];
    uint8_t pong_bytes, pong_sent; /* pong_sent < pong_bytes: it waits to be sent */
};

struct conn {
    int fd;
    bool writing;             /* EPOLLOUT is watched */
    bool in_control;          /* the payload that is coming is a control frame's */
    bool compare;             /* the payload that is coming is in the sample */
    uint8_t header_bytes;     /* of a header that is still coming, kept in `header` */
    uint8_t header[10];
    uint32_t in_flight;       /* messages whose echo is not complete, unsent ones too */
    uint32_t expected;        /* index in the ring of the message that comes next */
    uint32_t echoed;          /* complete echoes since the last send */
    size_t missing;           /* payload bytes of the current message still to come */
    size_t send_at, unsent;   /* position in the ring, and bytes from there that may go */
    struct control *control;
};

/* The counters and clocks at one border of the measured interval. */
struct mark {
    uint64_t messages;
    double now, client_cpu, server_cpu;
};

static struct options options;
static struct ring ring;
static struct conn *conns;
static int epoll_fd;
static uint32_t living;
static bool comparing_all = true, stopping;
static uint64_t messages, compared, pings, errors;
static char first_error[256];
static uint8_t receive[RECEIVE_BYTES];

/* Counts an error of the server; the first one is reported in words. */
__attribute__((format(printf, 1, 2))) static bool fault(const char *format, ...)
{
    if (errors++ == 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(first_error, sizeof first_error, format, arguments);
        va_end(arguments);
    }
    return false;
}

static void drop(struct conn *c)
{
    close(c->fd);
    c->fd = -1;
    free(c->control);
    c->control = NULL;
    living--;
}

static bool pong_waits(const struct conn *c)
{
    return c->control && c->control->pong_sent < c->control->pong_bytes;
}

/* Sends up to n bytes of the ring. False: the connection is lost. */
static bool send_frames(struct conn *c, size_t n)
{
    ssize_t sent = send(c->fd, ring.frames + c->send_at, n, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN || fault("the connection broke on a send: %s", strerror(errno));
    c->unsent -= (size_t)sent;
    c->send_at += (size_t)sent;
    if (c->send_at >= ring.count * ring.frame_bytes)
        c->send_at -= ring.count * ring.frame_bytes;
    return true;
}

/* Sends the Pong that waits, after the rest of a frame that is partly sent. */
static bool send_pong(struct conn *c)
{
    struct control *k = c->control;
    size_t begun = ring.frame_bytes ? c->send_at % ring.frame_bytes : 0;
    if (begun && !send_frames(c, ring.frame_bytes - begun))
        return false;
    if (ring.frame_bytes && c->send_at % ring.frame_bytes)
        return true;
    ssize_t sent = send(c->fd, k->pong + k->pong_sent, k->pong_bytes - k->pong_sent, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN || fault("the connection broke on a Pong: %s", strerror(errno));
    k->pong_sent += (uint8_t)sent;
    return true;
}

/* Sends what may go, in one write but for Pongs. False: the connection is lost. */
static bool flush(struct conn *c)
{
    if (pong_waits(c) && !send_pong(c))
        return false;
    if (c->unsent && !pong_waits(c) && !send_frames(c, c->unsent))
        return false;
    bool blocked = c->unsent > 0 || pong_waits(c);
    if (blocked != c->writing) {
        struct epoll_event e = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e) < 0)
            fail("epoll_ctl: %s", strerror(errno));
        c->writing = blocked;
    }
    return true;
}

static void queue_messages(struct conn *c, uint32_t n)
{
    c->in_flight += n;
    c->unsent += n * ring.frame_bytes;
}

static bool end_control(struct conn *c)
{
    struct control *k = c->control;
    c->in_control = false;
    if (k->opcode == OPCODE_CLOSE) {
        int code = k->length >= 2 ? k->payload[0] << 8 | k->payload[1] : 1005;
        return fault("the server sent Close %d", code);
    }
    bool begun = k->pong_sent > 0 && k->pong_sent < k->pong_bytes;
    if (k->opcode == OPCODE_PING && !begun) {
        uint32_t key = (uint32_t)random_bits();
        k->pong[0] = 0x80 | OPCODE_PONG;
        k->pong[1] = 0x80 | k->length;
        memcpy(k->pong + 2, &key, 4);
        apply_mask(k->pong + 6, k->payload, k->length, key);
        k->pong_bytes = 6 + k->length;
        k->pong_sent = 0;
        pings++;
    }
    return true;
}

static bool start_control(struct conn *c)
{
    uint8_t first = c->header[0], second = c->header[1], opcode = first & 0x0F;
    if ((first & 0xF0) != 0x80 || second > MAX_CONTROL_PAYLOAD || opcode > OPCODE_PONG)
        return fault("a bad control frame: its header is %02x %02x", first, second);
    if (!c->control && !(c->control = calloc(1, sizeof *c->control)))
        fail("out of memory");
    c->control->opcode = opcode;
    c->control->length = second;
    c->control->received = 0;
    c->in_control = true;
    return second > 0 || end_control(c);
}

static void end_message(struct conn *c)
{
    messages++;
    c->in_flight--;
    c->echoed++;
    if (++c->expected == ring.count)
        c->expected = 0;
}

static bool start_message(struct conn *c)
{
    if (c->in_flight == 0)
        return fault("a message that echoes nothing");
    c->missing = ring.size;
    c->compare = comparing_all || messages % SAMPLE_EVERY == 0;
    compared += c->compare;
    if (c->missing == 0)
        end_message(c);
    return true;
}

static bool wrong_header(const struct conn *c, size_t bytes)
{
    char got[31] = "", expected[31] = "";
    for (size_t i = 0; i < bytes; i++)
        sprintf(got + 3 * i, " %02x", c->header[i]);
    for (size_t i = 0; i < ring.header_bytes; i++)
        sprintf(expected + 3 * i, " %02x", ring.header[i]);
    return fault("the header of an echo: expected%s, got%s", expected, got);
}

/* Takes a header that was cut, or is not that of an echo. Returns the bytes taken, 0 on a fault. */
static size_t take_header(struct conn *c, const uint8_t *p, size_t n)
{
    size_t taken = 0;
    for (;;) {
        uint8_t length = c->header_bytes < 2 ? 0 : c->header[1] & 0x7F;
        size_t whole = length == 126 ? 4 : length == 127 ? 10 : 2;
        if (c->header_bytes == whole) {
            c->header_bytes = 0;
            if (c->header[0] & 0x08)
                return start_control(c) ? taken : 0;
            if (c->in_flight == 0)
                return fault("a message that echoes nothing"), 0;
            if (whole != ring.header_bytes || memcmp(c->header, ring.header, whole) != 0)
                return wrong_header(c, whole), 0;
            return start_message(c) ? taken : 0;
        }
        if (taken == n)
            return taken;
        c->header[c->header_bytes++] = p[taken++];
    }
}

static size_t take_control(struct conn *c, const uint8_t *p, size_t n)
{
    struct control *k = c->control;
    size_t wanted = k->length - k->received;
    n = n < wanted ? n : wanted;
    memcpy(k->payload + k->received, p, n);
    k->received += (uint8_t)n;
    if (k->received == k->length && !end_control(c))
        return 0;
    return n;
}

static size_t take_payload(struct conn *c, const uint8_t *p, size_t n)
{
    n = n < c->missing ? n : c->missing;
    if (c->compare) {
        const uint8_t *sent = ring.payloads + (c->expected + 1) * ring.size - c->missing;
        if (memcmp(p, sent, n) != 0) {
            fault("the payload of an echo differs from what was sent");
            c->compare = false;
        }
    }
    c->missing -= n;
    if (c->missing == 0)
        end_message(c);
    return n;
}

/* Checks what came. False: the stream makes no sense any more. */
static bool take(struct conn *c, const uint8_t *p, size_t n)
{
    while (n > 0) {
        size_t taken;
        if (c->missing) {
            taken = take_payload(c, p, n);
        } else if (c->in_control) {
            taken = take_control(c, p, n);
        } else if (c->header_bytes == 0 && n >= ring.header_bytes && !options.idle &&
                   memcmp(p, ring.header, ring.header_bytes) == 0) {
            taken = start_message(c) ? ring.header_bytes : 0;
        } else {
            taken = take_header(c, p, n);
        }
        if (taken == 0)
            return false;
        p += taken;
        n -= taken;
    }
    return true;
}

static bool on_readable(struct conn *c)
{
    ssize_t got = recv(c->fd, receive, RECEIVE_BYTES, 0);
    if (got < 0)
        return errno == EAGAIN || fault("the connection broke: %s", strerror(errno));
    if (got == 0)
        return fault("the server ended the connection");
    if (!take(c, receive, (size_t)got))
        return false;
    if (c->echoed && !stopping)
        queue_messages(c, c->echoed);
    c->echoed = 0;
    return !(c->unsent || pong_waits(c)) || flush(c);
}

static void turn(int timeout_ms)
{
    static struct epoll_event events[EVENTS_PER_WAIT];
    int n = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, timeout_ms);
    if (n < 0 && errno != EINTR)
        fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        struct conn *c = events[i].data.ptr;
        bool writable_only = !(events[i].events & ~(uint32_t)EPOLLOUT);
        if (!(writable_only ? flush(c) : on_readable(c)))
            drop(c);
    }
}

static double read_clock(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) < 0)
        fail("a clock cannot be read (the server's process may have ended): %s", strerror(errno));
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct mark mark_now(void)
{
    struct mark m = {.messages = messages};
    clockid_t server;
    if (options.server_pid) {
        int error = clock_getcpuclockid(options.server_pid, &server);
        if (error)
            fail("the CPU clock of process %d: %s", (int)options.server_pid, strerror(error));
        m.server_cpu = read_clock(server);
    }
    m.client_cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    m.now = read_clock(CLOCK_MONOTONIC);
    return m;
}

static void open_connections(void)
{
    raise_file_limit(options.connections);
    conns = calloc(options.connections, sizeof *conns);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!conns || epoll_fd < 0)
        fail("epoll or memory: %s", strerror(errno));
    for (uint32_t i = 0; i < options.connections; i++) {
        struct conn *c = &conns[i];
        c->fd = open_connection(&options.endpoint);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e) < 0)
            fail("epoll_ctl: %s", strerror(errno));
        living++;
    }
}

/* Goes away properly: Close 1000 where no frame is half sent. */
static void close_connections(void)
{
    for (uint32_t i = 0; i < options.connections; i++) {
        struct conn *c = &conns[i];
        if (c->fd < 0)
            continue;
        uint8_t frame[8] = {0x80 | OPCODE_CLOSE, 0x82};
        uint32_t key = (uint32_t)random_bits();
        memcpy(frame + 2, &key, 4);
        apply_mask(frame + 6, (const uint8_t[]){1000 >> 8, 1000 & 0xFF}, 2, key);
        if (!c->unsent && !pong_waits(c) &&
            send(c->fd, frame, sizeof frame, MSG_NOSIGNAL) != sizeof frame)
            fault("the connection broke on Close: %s", strerror(errno));
        drop(c);
    }
}

static uint64_t still_in_flight(void)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < options.connections; i++)
        sum += conns[i].fd < 0 ? 0 : conns[i].in_flight;
    return sum;
}

/* Waits for the echoes that are still out: an echo that never comes is an error too. */
static void drain(void)
{
    double deadline = read_clock(CLOCK_MONOTONIC) + DRAIN_SECONDS;
    stopping = true;
    while (still_in_flight() > 0 && read_clock(CLOCK_MONOTONIC) < deadline)
        turn(100);
    uint64_t lost = still_in_flight();
    if (lost)
        fault("%llu messages not echoed within %d s", (unsigned long long)lost, DRAIN_SECONDS);
}

static void measure(struct mark *start, struct mark *end)
{
    for (uint32_t i = 0; i < options.connections; i++) {
        struct conn *c = &conns[i];
        c->expected = (uint32_t)(i * 7919ull % ring.count);
        c->send_at = c->expected * ring.frame_bytes;
        queue_messages(c, options.in_flight);
        if (!flush(c))
            drop(c);
    }
    double until = read_clock(CLOCK_MONOTONIC) + options.warmup;
    while (living && read_clock(CLOCK_MONOTONIC) < until)
        turn(10);
    comparing_all = false;
    *start = mark_now();
    until = start->now + options.seconds;
    while (living && read_clock(CLOCK_MONOTONIC) < until)
        turn(10);
    *end = mark_now();
    drain();
}

/* Holds the connections until standard input says or is at its end. */
static void hold(void)
{
    printf("idle %u\n", options.connections);
    fflush(stdout);
    struct pollfd watched[2] = {{STDIN_FILENO, POLLIN, 0}, {epoll_fd, POLLIN, 0}};
    do {
        if (poll(watched, 2, -1) < 0 && errno != EINTR)
            fail("poll: %s", strerror(errno));
        if (watched[1].revents)
            turn(0);
    } while (!watched[0].revents);
}

static double number(const char *name, const char *text, double least, double most)
{
    char *rest;
    double value = strtod(text, &rest);
    if (rest == text || *rest || !(value >= least && value <= most))
        fail("--%s: expected a number from %.15g to %.15g, got \"%s\"", name, least, most, text);
    return value;
}

static uint32_t whole(const char *name, const char *text, uint32_t least, uint32_t most)
{
    double value = number(name, text, least, most);
    if (value != (double)(uint32_t)value)
        fail("--%s: expected a whole number, got \"%s\"", name, text);
    return (uint32_t)value;
}

static void parse_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"url", required_argument, 0, 'u'},       {"port", required_argument, 0, 'p'},
        {"size", required_argument, 0, 'b'},      {"connections", required_argument, 0, 'n'},
        {"in-flight", required_argument, 0, 'k'}, {"seconds", required_argument, 0, 's'},
        {"warmup", required_argument, 0, 'w'},    {"server-pid", required_argument, 0, 'P'},
        {"text", no_argument, 0, 't'},            {"idle", no_argument, 0, 'i'},
        {"help", no_argument, 0, 'h'},            {0, 0, 0, 0}};
    char url[64] = "";
    const char *target = NULL;
    options = (struct options){
        .size = 32, .connections = 64, .in_flight = 1, .seconds = 2, .warmup = 0.5};
    for (int at, c; (c = getopt_long(argc, argv, "", names, &at)) != -1;) {
        switch (c) {
        case 'u': target = optarg; break;
        case 'p':
            snprintf(url, sizeof url, "ws://127.0.0.1:%u", whole("port", optarg, 1, 65535));
            target = url;
            break;
        case 'b': options.size = whole("size", optarg, 0, MAX_SIZE); break;
        case 'n': options.connections = whole("connections", optarg, 1, MAX_CONNECTIONS); break;
        case 'k': options.in_flight = whole("in-flight", optarg, 1, MAX_IN_FLIGHT); break;
        case 's': options.seconds = number("seconds", optarg, 0.01, 86400); break;
        case 'w': options.warmup = number("warmup", optarg, 0, 86400); break;
        case 'P': options.server_pid = (pid_t)whole("server-pid", optarg, 1, INT32_MAX); break;
        case 't': options.text = true; break;
        case 'i': options.idle = true; break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
    }
    if (optind < argc || !target) {
        fputs(usage, stderr);
        exit(2);
    }
    if (!parse_url(target, &options.endpoint))
        fail("--url: expected ws://ADDRESS:PORT[/PATH] with an IPv4 address, got \"%s\"", target);
    if ((options.size + 14) * (options.in_flight + RING_MIN) > MAX_RING_BYTES)
        fail("--size times --in-flight is more than %d bytes", MAX_RING_BYTES);
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    if (!options.idle && !build_ring(&ring, options.size, options.in_flight, options.text))
        fail("out of memory for the prepared messages");
    open_connections();
    struct mark start = {0}, end = {0};
    if (options.idle)
        hold();
    else
        measure(&start, &end);
    uint32_t lasted = living;
    close_connections();

    printf("{\"connections\": %u, \"lasted\": %u, ", options.connections, lasted);
    if (!options.idle) {
        printf("\"size\": %zu, \"in_flight\": %u, \"text\": %s, \"messages\": %llu, "
               "\"compared\": %llu, \"seconds\": %.9f, \"client_cpu_seconds\": %.9f, ",
               options.size, options.in_flight, options.text ? "true" : "false",
               (unsigned long long)(end.messages - start.messages), (unsigned long long)compared,
               end.now - start.now, end.client_cpu - start.client_cpu);
        if (options.server_pid)
            printf("\"server_cpu_seconds\": %.9f, ", end.server_cpu - start.server_cpu);
    }
    printf("\"pings\": %llu, \"errors\": %llu, \"error\": \"%s\"}\n", (unsigned long long)pings,
           (unsigned long long)errors, first_error);
    return errors ? 1 : 0;
}
