/*
 * The first process of every sandbox: holds its namespaces open, reaps orphans, ends on SIGTERM or SIGINT.
 *
 * Freestanding (no libc), a few hundred bytes, so it costs one page of memory and starts at once. It blocks the signals
 * and waits for them instead of handling them: a first process gets no signal it neither handles nor blocks.
 */

#if defined(__x86_64__)
enum { SYS_RT_SIGPROCMASK = 14, SYS_WAIT4 = 61, SYS_RT_SIGTIMEDWAIT = 128, SYS_EXIT_GROUP = 231 };

static long call4(long number, long a, long b, long c, long d) {
    long result;
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { SYS_RT_SIGPROCMASK = 135, SYS_WAIT4 = 260, SYS_RT_SIGTIMEDWAIT = 137, SYS_EXIT_GROUP = 94 };

static long call4(long number, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#else
#error "pause.c knows x86_64 and aarch64; add the four system call numbers of this machine"
#endif

enum { SIG_BLOCK = 0, SIGINT = 2, SIGTERM = 15, SIGCHLD = 17, WNOHANG = 1 };

static const unsigned long signals = 1UL << (SIGINT - 1) | 1UL << (SIGTERM - 1) | 1UL << (SIGCHLD - 1);

__attribute__((noreturn, used)) void _start(void) {
    call4(SYS_RT_SIGPROCMASK, SIG_BLOCK, (long)&signals, 0, sizeof signals);
    for (;;) {
        long signal = call4(SYS_RT_SIGTIMEDWAIT, (long)&signals, 0, 0, sizeof signals);
        if (signal == SIGTERM || signal == SIGINT) {
            call4(SYS_EXIT_GROUP, 0, 0, 0, 0);
        }
        while (call4(SYS_WAIT4, -1, 0, WNOHANG, 0) > 0) {
        }
    }
}
