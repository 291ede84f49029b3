/*
 * datagram serve PORT...              answers every datagram with its own words and who it came from, for ever
 * datagram ask ADDRESS PORT WORDS     prints the answer; says it again, since datagrams get lost, and fails without one
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_PORTS = 8, TRIES = 6, PATIENCE_MS = 400 };

static int bound(const char *port) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    int socket_ = socket(AF_INET, SOCK_DGRAM, 0);
    if (socket_ < 0 || bind(socket_, (struct sockaddr *)&any, sizeof any) < 0) {
        perror(port);
        exit(1);
    }
    return socket_;
}

static void answer(int socket_) {
    char words[1024], answer[1200], address[INET_ADDRSTRLEN];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    ssize_t length = recvfrom(socket_, words, sizeof words, 0, (struct sockaddr *)&from, &size);
    if (length < 0) return;
    inet_ntop(AF_INET, &from.sin_addr, address, sizeof address);
    int all = snprintf(answer, sizeof answer, "%.*s from %s", (int)length, words, address);
    sendto(socket_, answer, all, 0, (struct sockaddr *)&from, size);
}

static int serve(int count, char **ports) {
    struct pollfd sockets[MOST_PORTS];
    if (count > MOST_PORTS) return 2;
    for (int at = 0; at < count; at++) sockets[at] = (struct pollfd){.fd = bound(ports[at]), .events = POLLIN};
    puts("READY");
    fflush(stdout);
    while (poll(sockets, count, -1) >= 0) {
        for (int at = 0; at < count; at++) {
            if (sockets[at].revents) answer(sockets[at].fd);
        }
    }
    return 1;
}

static int ask(const char *address, const char *port, const char *words) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    int socket_ = socket(AF_INET, SOCK_DGRAM, 0);
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1 || connect(socket_, (struct sockaddr *)&to, sizeof to) < 0) {
        perror(address);
        return 2;
    }
    for (int tried = 0; tried < TRIES; tried++) {
        char answer[1200];
        struct pollfd waited = {.fd = socket_, .events = POLLIN};
        if (send(socket_, words, strlen(words), 0) >= 0 && poll(&waited, 1, PATIENCE_MS) > 0) {
            ssize_t length = recv(socket_, answer, sizeof answer, 0);
            if (length >= 0) {
                printf("%.*s\n", (int)length, answer);
                return 0;
            }
        }
        usleep(50 * 1000);
    }
    return 1;
}

int main(int count, char **words) {
    if (count > 2 && !strcmp(words[1], "serve")) return serve(count - 2, words + 2);
    if (count == 5 && !strcmp(words[1], "ask")) return ask(words[2], words[3], words[4]);
    fputs("datagram serve PORT... | datagram ask ADDRESS PORT WORDS\n", stderr);
    return 2;
}
