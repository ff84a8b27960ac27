/* What bcc includes before everything; a BPF program of netc needs nothing of a kernel's configuration. */
#define CONFIG_BPF_SYSCALL 1
