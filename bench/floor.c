/* The floor: a bare WebSocket echo server on 127.0.0.1, one thread, level-triggered epoll. It does
 * what no echo server can leave out (one receive and one send per readable connection, unmasking)
 * and next to nothing else, so that its cost is the kernel's. It echoes frames, not messages, and
 * checks no more than it needs to stay in step with the peer.
 *
 * usage: floor [PORT]     0 or nothing picks a free port; prints "listening on ws://127.0.0.1:PORT" */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "handshake.h"
#include "mask.h"

enum {
    RECEIVE_BYTES = 256 * 1024,
    MAX_REQUEST_BYTES = 8 * 1024,
    MAX_PAYLOAD_BYTES = 64 * 1024 * 1024,
    EVENTS_PER_WAIT = 1024,
    MAX_HEADER_BYTES = 14,
    OPCODE_CLOSE = 0x8,
    OPCODE_PING = 0x9,
    OPCODE_PONG = 0xA,
};

struct buffer {
    uint8_t *data;
    size_t start, end; /* start <= end <= capacity */
    size_t capacity;
};

/* What a connection needs only once a read or a write was cut short. */
struct work {
    struct buffer in;  /* the reply to a frame that is still coming, or an unfinished request */
    struct buffer out; /* the backlog: the kernel has not taken it; not empty = not reading */
    size_t missing;    /* payload bytes that `in` still waits for */
    size_t gathered;   /* payload bytes that `in` holds */
    uint32_t key;
    uint8_t header[MAX_HEADER_BYTES]; /* the first bytes of a header that is still coming */
    uint8_t header_bytes;
};

struct conn {
    struct work *work;
    int fd;
    bool open;    /* the opening handshake is done */
    bool closing; /* Close is answered: nothing is read, and the end of the backlog ends it */
};

struct header {
    uint8_t first; /* FIN, RSV and opcode */
    uint8_t bytes; /* its own length, masking key included */
    uint32_t key;
    uint64_t payload;
};

static int epoll_fd;
static uint8_t receive[RECEIVE_BYTES];

static void die(const char *what)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void *must(void *memory)
{
    if (!memory)
        die("out of memory");
    return memory;
}

static struct work *work_of(struct conn *c)
{
    if (!c->work)
        c->work = must(calloc(1, sizeof *c->work));
    return c->work;
}

static void append(struct buffer *b, const uint8_t *data, size_t n)
{
    if (b->capacity - b->end < n) {
        b->capacity = b->end + n;
        b->data = must(realloc(b->data, b->capacity));
    }
    memcpy(b->data + b->end, data, n);
    b->end += n;
}

static void drop(struct conn *c)
{
    close(c->fd);
    if (c->work) {
        free(c->work->in.data);
        free(c->work->out.data);
        free(c->work);
    }
    free(c);
}

static void watch(struct conn *c, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e) < 0)
        die("epoll_ctl");
}

/* Parses the header at `p`: 1 done, 0 more bytes are needed, -1 the peer is not to be served. */
static inline int parse_header(const uint8_t *p, size_t n, struct header *h)
{
    if (n < 2)
        return 0;
    if (!(p[1] & 0x80))
        return -1;
    h->first = p[0];
    h->payload = p[1] & 0x7F;
    h->bytes = h->payload < 126 ? 6 : h->payload == 126 ? 8 : 14;
    if (n < h->bytes)
        return 0;
    if (h->payload == 126) {
        h->payload = (uint64_t)p[2] << 8 | p[3];
    } else if (h->payload == 127) {
        h->payload = 0;
        for (int i = 2; i < 10; i++)
            h->payload = h->payload << 8 | p[i];
    }
    memcpy(&h->key, p + h->bytes - 4, 4);
    return h->payload <= MAX_PAYLOAD_BYTES ? 1 : -1;
}

/* Writes the reply's header: the request's without the masking key. `to` may be `from` or before. */
static inline uint8_t *write_header(uint8_t *to, const uint8_t *from, const struct header *h)
{
    size_t n = h->bytes - 4;
    bool ping = (h->first & 0x0F) == OPCODE_PING;
    uint8_t second = from[1] & 0x7F;
    if (n > 2)
        memmove(to + 2, from + 2, n - 2);
    to[0] = ping ? (h->first & 0xF0) | OPCODE_PONG : h->first;
    to[1] = second;
    return to + n;
}

/* Sends the frame in `in`, if `gathered`, and then the batch. What the kernel does not take becomes
 * the backlog, and the connection is not read until that is gone. False: the connection is lost. */
static bool deliver(struct conn *c, bool gathered, uint8_t *batch, size_t n)
{
    size_t first = gathered ? c->work->in.end : 0;
    ssize_t sent;
    if (first + n == 0)
        return true;
    if (gathered) {
        struct iovec parts[2] = {{c->work->in.data, first}, {batch, n}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = n ? 2 : 1};
        sent = sendmsg(c->fd, &message, MSG_NOSIGNAL);
    } else {
        sent = send(c->fd, batch, n, MSG_NOSIGNAL);
    }
    if (sent == (ssize_t)(first + n))
        return true;
    if (sent < 0) {
        if (errno != EAGAIN)
            return false;
        sent = 0;
    }

    struct work *w = work_of(c);
    size_t done = (size_t)sent;
    w->out.start = w->out.end = 0;
    if (done < first) {
        struct buffer frame = w->in;
        w->in = w->out;
        w->out = frame;
        w->out.start = done;
        done = first;
    }
    append(&w->out, batch + (done - first), n - (done - first));
    watch(c, EPOLLOUT);
    return true;
}

/* Starts `in` with the reply to the frame at `p`, of which only n bytes have come. */
static void start_gathering(struct conn *c, const uint8_t *p, size_t n, const struct header *h)
{
    struct work *w = work_of(c);
    size_t whole = h->bytes - 4 + h->payload;
    if (w->in.capacity < whole) {
        free(w->in.data);
        w->in.data = must(malloc(whole));
        w->in.capacity = whole;
    }
    uint8_t *payload = write_header(w->in.data, p, h);
    w->gathered = n - h->bytes;
    w->missing = h->payload - w->gathered;
    w->key = h->key;
    apply_mask(payload, p + h->bytes, w->gathered, h->key);
    w->in.start = 0;
    w->in.end = h->bytes - 4 + w->gathered;
}

/* Echoes the frames in the receive buffer, after the one in `in` if `gathered`. The replies are
 * written over the frames: each is four bytes shorter, so the batch never overtakes its source. */
static bool echo(struct conn *c, bool gathered, size_t n)
{
    uint8_t *p = receive, *end = receive + n;
    uint8_t *batch = receive + 4, *to = batch; /* the first payload then stays where it is */
    struct header h = {0};
    int parsed;
    while ((parsed = parse_header(p, (size_t)(end - p), &h)) == 1) {
        if ((size_t)(end - p) - h.bytes < h.payload)
            break;
        uint8_t opcode = h.first & 0x0F;
        uint8_t *payload = p + h.bytes;
        if (opcode != OPCODE_PONG) {
            to = write_header(to, p, &h);
            apply_mask(to, payload, h.payload, h.key);
            to += h.payload;
        }
        p = payload + h.payload;
        if (opcode == OPCODE_CLOSE) {
            c->closing = true;
            break;
        }
    }
    if (parsed < 0 || !deliver(c, gathered, batch, to > batch ? (size_t)(to - batch) : 0))
        return false;
    if (c->closing)
        return c->work && c->work->out.start < c->work->out.end;
    if (parsed == 1) {
        start_gathering(c, p, (size_t)(end - p), &h);
    } else if (p < end) {
        struct work *w = work_of(c);
        w->header_bytes = (uint8_t)(end - p);
        memcpy(w->header, p, w->header_bytes);
    }
    return true;
}

/* Receives the rest of the frame in `in`, and into the receive buffer what follows it. */
static bool gather(struct conn *c)
{
    struct work *w = c->work;
    struct iovec parts[2] = {{w->in.data + w->in.end, w->missing}, {receive, RECEIVE_BYTES}};
    ssize_t got = readv(c->fd, parts, 2);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    size_t n = (size_t)got < w->missing ? (size_t)got : w->missing;
    uint8_t *new = w->in.data + w->in.end;
    apply_mask(new, new, n, key_at(w->key, w->gathered));
    w->gathered += n;
    w->missing -= n;
    w->in.end += n;
    return w->missing > 0 || echo(c, true, (size_t)got - n);
}

/* Answers the opening handshake as soon as the whole request is there. */
static bool shake_hands(struct conn *c, size_t n)
{
    uint8_t *request = receive;
    if (n > MAX_REQUEST_BYTES || (c->work && c->work->in.end + n > MAX_REQUEST_BYTES))
        return false;
    if (c->work) {
        append(&c->work->in, receive, n);
        request = c->work->in.data;
        n = c->work->in.end;
    }
    char text[MAX_REQUEST_BYTES + 1];
    memcpy(text, request, n);
    text[n] = '\0';
    char *head_end = strstr(text, "\r\n\r\n");
    if (!head_end) {
        if (!c->work)
            append(&work_of(c)->in, receive, n);
        return true;
    }
    static const char field[] = "\r\nSec-WebSocket-Key:";
    char *key = strcasestr(text, field);
    /* A client must not send frames before it has the response. */
    if (!key || head_end + 4 != text + n)
        return false;
    key += sizeof field - 1;
    key += strspn(key, " \t");
    if (strcspn(key, " \t\r") != KEY_CHARS)
        return false;

    char accept[ACCEPT_CHARS + 1], response[256];
    accept_for_key(key, accept);
    int length = snprintf(response, sizeof response,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                          accept);
    if (c->work) {
        free(c->work->in.data);
        free(c->work);
        c->work = NULL;
    }
    c->open = true;
    return send(c->fd, response, (size_t)length, MSG_NOSIGNAL) == length;
}

static bool on_readable(struct conn *c)
{
    size_t held = 0;
    if (c->work) {
        if (c->work->missing > 0)
            return gather(c);
        held = c->work->header_bytes;
        memcpy(receive, c->work->header, held);
    }
    ssize_t got = recv(c->fd, receive + held, RECEIVE_BYTES - held, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    if (held)
        c->work->header_bytes = 0;
    return c->open ? echo(c, false, held + (size_t)got) : shake_hands(c, (size_t)got);
}

static bool on_writable(struct conn *c)
{
    struct buffer *out = &c->work->out;
    ssize_t sent = send(c->fd, out->data + out->start, out->end - out->start, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN;
    out->start += (size_t)sent;
    if (out->start < out->end)
        return true;
    if (c->closing)
        return false;
    watch(c, EPOLLIN);
    return true;
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN)
                return;
            if (errno == ECONNABORTED || errno == EINTR)
                continue;
            die("accept4");
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct conn *c = must(calloc(1, sizeof *c));
        c->fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0)
            die("epoll_ctl");
    }
}

static int listen_on(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        die("listen");
    printf("listening on ws://127.0.0.1:%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    char *rest = "";
    long port = argc > 1 ? strtol(argv[1], &rest, 10) : 0;
    if (argc > 2 || *rest || port < 0 || port > 65535) {
        fprintf(stderr, "usage: floor [PORT], a port from 0 to 65535 (0: any free one)\n");
        return 2;
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on((uint16_t)port);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e) < 0)
        die("epoll");

    static struct epoll_event events[EVENTS_PER_WAIT];
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c)
                accept_all(listener);
            else if (!(events[i].events & EPOLLOUT ? on_writable(c) : on_readable(c)))
                drop(c);
        }
    }
}
