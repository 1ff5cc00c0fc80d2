/*
 * pass.c - descriptors over unix sockets
 */
#include "base/pass.h"

#include <string.h>
#include <sys/socket.h>

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(PASS_MAX * sizeof(int))];
};

ssize_t pass_send(int socket, const void *data, size_t len, const int *fds, size_t n)
{
    union control control = { 0 };
    struct iovec iov = { (void *)data, len };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.bytes,
                          .msg_controllen = CMSG_SPACE(n * sizeof(*fds)) };
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(n * sizeof(*fds));
    memcpy(CMSG_DATA(c), fds, n * sizeof(*fds));
    return sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t pass_receive(int socket, void *data, size_t len, int fds[PASS_MAX], size_t *ret_n)
{
    union control control;
    struct iovec iov = { data, len };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.bytes,
                          .msg_controllen = sizeof(control.bytes) };
    ssize_t got = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = got > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

    *ret_n = 0;
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        *ret_n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(*fds);
        memcpy(fds, CMSG_DATA(c), *ret_n * sizeof(*fds));
    }
    return got;
}
