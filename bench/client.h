/* Opens WebSocket connections one by one: TCP, then the opening handshake, both blocking.
 * Does not know: frames, epoll. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "handshake.h"
#include "ring.h"

enum { HANDSHAKE_SECONDS = 30, MAX_RESPONSE_BYTES = 8 * 1024, MAX_SOURCES = 64 };

struct endpoint {
    struct sockaddr_in address;
    char host[64];
    char path[256];
};

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

/* Parses ws://ADDRESS:PORT[/PATH]; ADDRESS is a dotted IPv4 address or "localhost". */
static bool parse_url(const char *url, struct endpoint *e)
{
    unsigned port;
    int used = 0;
    char name[32];
    if (sscanf(url, "ws://%31[^:/]:%5u%n", name, &port, &used) != 2 || port < 1 || port > 65535)
        return false;
    if (url[used] != '\0' && url[used] != '/')
        return false;
    const char *address = strcmp(name, "localhost") == 0 ? "127.0.0.1" : name;
    e->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &e->address.sin_addr) != 1)
        return false;
    snprintf(e->host, sizeof e->host, "%s:%u", name, port);
    int n = snprintf(e->path, sizeof e->path, "%s", url[used] ? url + used : "/");
    return n < (int)sizeof e->path && strpbrk(e->path, " \r\n#") == NULL;
}

static void raise_file_limit(unsigned connections)
{
    struct rlimit files;
    rlim_t needed = (rlim_t)connections + 64;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        fail("getrlimit: %s", strerror(errno));
    rlim_t hard = files.rlim_max;
    if (files.rlim_cur >= needed)
        return;
    files.rlim_cur = needed;
    if (hard < needed)
        files.rlim_max = needed;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        fail("%u connections need a limit of %llu open files, and the hard limit is %llu: raise it "
             "(ulimit -Hn) or ask for fewer connections",
             connections, (unsigned long long)needed, (unsigned long long)hard);
}

/* Connects; moves on to the next loopback source address when the ports of one have run out. */
static int connect_tcp(const struct endpoint *e)
{
    static unsigned source = 1;
    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            fail("socket: %s", strerror(errno));
        int on = 1;
        struct timeval patience = {.tv_sec = HANDSHAKE_SECONDS};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (source > 1) {
            struct sockaddr_in from = {.sin_family = AF_INET};
            from.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + source);
            setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
            if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
                fail("bind to 127.0.0.%u: %s", source, strerror(errno));
        }
        if (connect(fd, (const struct sockaddr *)&e->address, sizeof e->address) == 0)
            return fd;
        int cause = errno;
        close(fd);
        if (cause != EADDRNOTAVAIL || ++source > MAX_SOURCES)
            fail("connect to %s: %s", e->host, strerror(cause));
    }
}

/* Finds "name: value" in a NUL-terminated head and compares the value, without regard to case
 * unless `exact`. */
static bool has_field(const char *head, const char *name, const char *value, bool exact)
{
    size_t length = strlen(name), expected = strlen(value);
    for (const char *line = head; (line = strstr(line, "\r\n")) != NULL;) {
        line += 2;
        if (strncasecmp(line, name, length) != 0 || line[length] != ':')
            continue;
        const char *found = line + length + 1;
        found += strspn(found, " \t");
        size_t n = strcspn(found, "\r");
        while (n > 0 && (found[n - 1] == ' ' || found[n - 1] == '\t'))
            n--;
        return n == expected && (exact ? strncmp : strncasecmp)(found, value, n) == 0;
    }
    return false;
}

static void check_response(const struct endpoint *e, const char *head, const char *key)
{
    char accept[ACCEPT_CHARS + 1];
    accept_for_key(key, accept);
    if (strncmp(head, "HTTP/1.1 101 ", 13) != 0)
        fail("%s refused the opening handshake: expected status 101, got \"%.*s\"", e->host,
             (int)strcspn(head, "\r"), head);
    if (!has_field(head, "Upgrade", "websocket", false))
        fail("the response of %s has no \"Upgrade: websocket\"", e->host);
    if (!has_field(head, "Connection", "Upgrade", false))
        fail("the response of %s has no \"Connection: Upgrade\"", e->host);
    if (!has_field(head, "Sec-WebSocket-Accept", accept, true))
        fail("the response of %s has no \"Sec-WebSocket-Accept: %s\"", e->host, accept);
    if (strcasestr(head, "\r\nSec-WebSocket-Extensions:"))
        fail("%s chose an extension, and none was offered", e->host);
}

/* Returns the descriptor of an open connection, non-blocking. */
static int open_connection(const struct endpoint *e)
{
    uint8_t nonce[16];
    char key[KEY_CHARS + 1], request[768], head[MAX_RESPONSE_BYTES + 1];
    for (int i = 0; i < 16; i += 8) {
        uint64_t bits = random_bits();
        memcpy(nonce + i, &bits, 8);
    }
    base64(nonce, sizeof nonce, key);
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                          "Sec-WebSocket-Version: 13\r\n\r\n",
                          e->path, e->host, key);
    int fd = connect_tcp(e);
    if (send(fd, request, (size_t)length, MSG_NOSIGNAL) != length)
        fail("the opening handshake with %s: %s", e->host, strerror(errno));

    size_t n = 0;
    char *end = NULL;
    while (!end) {
        ssize_t got = n < MAX_RESPONSE_BYTES ? recv(fd, head + n, MAX_RESPONSE_BYTES - n, 0) : 0;
        if (got <= 0)
            fail("no whole response from %s to the opening handshake: %s", e->host,
                 got == 0 ? "it ended or is too long" : strerror(errno));
        n += (size_t)got;
        head[n] = '\0';
        end = strstr(head, "\r\n\r\n");
    }
    check_response(e, head, key);
    if (end + 4 != head + n)
        fail("%s speaks first: %zu bytes behind its response", e->host,
             (size_t)(head + n - end - 4));
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        fail("fcntl: %s", strerror(errno));
    return fd;
}

#endif
