/*
 * System calls of other kinds: System V and POSIX IPC, limits, scheduling, prctl, random numbers, resource
 * usage, segment bases, capabilities that must be refused the same way, and unknown calls.
 * Build: dynamic static, -pthread
 */
#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "limits.h"

static void system_v(void) {
  int id = shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600);
  int *shared = shmat(id, NULL, 0);
  struct shmid_ds info = {0}; /* qemu-aarch64 leaves its padding alone, where a mode of 32 bits reaches */
  printf("shmctl: %d", shmctl(id, IPC_STAT, &info));
  printf(", size %zu, attached %lu, mode %o, mine %d\n", info.shm_segsz, (long)info.shm_nattch, info.shm_perm.mode,
         info.shm_cpid == getpid());
  int semaphores = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600);
  semctl(semaphores, 0, SETVAL, 0);
  pid_t pid = fork();
  if (pid == 0) {
    *shared = 1234;
    struct sembuf up = {0, 1, 0};
    _exit(semop(semaphores, &up, 1));
  }
  struct sembuf down = {0, -1, 0};
  int result = semop(semaphores, &down, 1);
  printf("semop: %d, shared %d\n", result, *shared);
  waitpid(pid, NULL, 0);
  struct semid_ds sem_info;
  printf("semctl: %d", semctl(semaphores, 0, IPC_STAT, &sem_info));
  printf(", %lu semaphores\n", sem_info.sem_nsems);
  shmdt(shared), shmctl(id, IPC_RMID, NULL), semctl(semaphores, 0, IPC_RMID);
  struct { long type; char text[32]; } message = {7, "by System V"}, back = {0};
  int queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  printf("msgsnd: %d", msgsnd(queue, &message, sizeof message.text, 0));
  printf(", msgrcv %zd", msgrcv(queue, &back, sizeof back.text, 7, 0));
  printf(" %s\n", back.text);
  struct msqid_ds queue_info;
  printf("msgctl: %d", msgctl(queue, IPC_STAT, &queue_info));
  printf(", %lu messages\n", (long)queue_info.msg_qnum);
  msgctl(queue, IPC_RMID, NULL);
}

static void posix_queue(void) {
  struct mq_attr attributes = {.mq_maxmsg = 4, .mq_msgsize = 64}, now;
  char name[64], text[64] = "";
  unsigned priority;
  snprintf(name, sizeof name, "/stele-calls-%d", getpid());
  mqd_t queue = mq_open(name, O_CREAT | O_RDWR, 0600, &attributes);
  if (queue == (mqd_t)-1) {
    printf("mq: %s\n", strerror(errno));
    return;
  }
  mq_send(queue, "low", 3, 1), mq_send(queue, "high", 4, 9);
  mq_getattr(queue, &now);
  printf("mq: %ld of %ld", now.mq_curmsgs, now.mq_maxmsg);
  printf(", received %zd", mq_receive(queue, text, 64, &priority));
  printf(" %s %u\n", text, priority);
  mq_unlink(name);
}

static void limits(void) {
  struct rlimit limit = {100, 200}, old;
  printf("setrlimit: %d", setrlimit(RLIMIT_NOFILE, &limit));
  getrlimit(RLIMIT_NOFILE, &old);
  printf(", %lu %lu", old.rlim_cur, old.rlim_max);
  printf(", prlimit %d", prlimit(0, RLIMIT_NOFILE, NULL, &old));
  printf(", dup beyond %s\n", dup2(1, 150) < 0 ? strerror(errno) : "fine");
  struct rusage usage;
  struct sysinfo info;
  struct tms used;
  printf("rusage: %d %d, sysinfo %d %d, times %d\n", getrusage(RUSAGE_SELF, &usage), getrusage(RUSAGE_CHILDREN, &usage),
         sysinfo(&info), sysinfo(&info) == 0 && info.totalram > 1000000, times(&used) > 0);
  printf("priority: %d", setpriority(PRIO_PROCESS, 0, 5));
  printf(" %d\n", getpriority(PRIO_PROCESS, 0));
}

static void scheduling(void) {
  cpu_set_t set;
  struct sched_param parameter = {0};
  CPU_ZERO(&set);
  printf("affinity: %d", sched_getaffinity(0, sizeof set, &set));
  printf(" %d\n", CPU_COUNT(&set) == sysconf(_SC_NPROCESSORS_ONLN));
  printf("scheduler: %d %d %d\n", sched_getscheduler(0), sched_getparam(0, &parameter),
         sched_get_priority_max(SCHED_FIFO));
  unsigned cpu = 999, node;
  printf("getcpu: %ld", syscall(SYS_getcpu, &cpu, &node, NULL));
  printf(" %d\n", cpu < 999);
}

static void process_control(void) {
  char name[16] = "";
  int signal = 0;
  prctl(PR_SET_NAME, "renamed");
  prctl(PR_GET_NAME, name);
  prctl(PR_SET_PDEATHSIG, SIGUSR1);
  prctl(PR_GET_PDEATHSIG, &signal);
  printf("prctl: %s %d %d %d\n", name, signal, prctl(PR_GET_DUMPABLE), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  printf("no_new_privs: %d, unknown %s\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
         prctl(9999, 0, 0, 0, 0) ? strerror(errno) : "fine");
  uint64_t words[2] = {0};
  printf("getrandom: %zd", getrandom(words, 16, 0));
  printf(" %d, bad flags %s\n", words[0] != words[1], getrandom(words, 8, 0x100) < 0 ? strerror(errno) : "fine");
  printf("ids: %d %d %d %d\n", getppid() > 0, getsid(0) > 0, getpgrp() == getpgid(0), gettid() == getpid());
  printf("umask: %o", umask(027));
  printf(" %o\n", umask(022));
  printf("personality: %lx\n", syscall(SYS_personality, 0xffffffff));
}

static void segments(void) {
  static uint64_t block[4] = {0x1111, 0x2222, 0x3333, 0x4444};
  uint64_t base = 0, value = 0, fs;
  printf("set gs: %ld", syscall(SYS_arch_prctl, ARCH_SET_GS, block));
  printf(", get %ld", syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
  __asm__("mov %%gs:8, %0" : "=r"(value));
  printf(", base %d, value %lx\n", base == (uint64_t)block, value);
  __asm__("movq $0x99, %%gs:16\n incl %%gs:(%1)" : "=m"(block) : "r"(24l));
  printf("stored: %lx %lx\n", block[2], block[3]);
  syscall(SYS_arch_prctl, ARCH_GET_FS, &fs);
  __asm__("mov %%fs:0, %0" : "=r"(value));
  printf("fs: %d, bad base %s\n", value == fs,
         syscall(SYS_arch_prctl, ARCH_SET_FS, 0x800000000000) ? strerror(errno) : "fine");
}

static void refusals(void) {
  printf("unknown call: %s\n", syscall(1999) < 0 ? strerror(errno) : "fine");
  printf("negative call: %s\n", syscall(-5) < 0 ? strerror(errno) : "fine");
  printf("bad pointers: %s", syscall(SYS_read, open("/dev/zero", O_RDONLY), 8, 8) < 0 ? strerror(errno) : "fine");
  printf(", %s", syscall(SYS_stat, (char *)8, (void *)8) < 0 ? strerror(errno) : "fine");
  printf(", %s", syscall(SYS_rt_sigaction, SIGUSR1, (void *)8, NULL, 8) < 0 ? strerror(errno) : "fine");
  printf(", %s", syscall(SYS_clock_gettime, 1, (void *)8) < 0 ? strerror(errno) : "fine");
  printf(", %s\n", syscall(SYS_writev, 1, (void *)8, 1) < 0 ? strerror(errno) : "fine");
  printf("bad sizes: %s", syscall(SYS_rt_sigprocmask, 0, NULL, NULL, 4) < 0 ? strerror(errno) : "fine");
  printf(", %s\n", close(9999) < 0 ? strerror(errno) : "fine");
  char from[8] = "vm copy", to[8] = "";
  struct iovec local = {to, 8}, remote = {from, 8};
  if (under_qemu_user()) return;
  printf("process_vm_readv: %zd", process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
  printf(" %s\n", to);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  system_v();
  posix_queue();
  scheduling();
  process_control();
  segments();
  refusals();
  limits();
  return 0;
}
