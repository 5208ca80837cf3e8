/* Counts the bytes that a process has allocated and not freed, and their peak.
 *
 * Loaded by LD_PRELOAD, it stands before glibc's allocator: every call goes on to glibc
 * (`__libc_malloc` and its like, which are exported for that), and what was asked for is added to a
 * counter. How much a block is has to be known when it is freed: it is written behind the block,
 * in 16 bytes more than were asked for. So the count is of bytes asked for, and does not depend on
 * how glibc rounds them, on mallopt, or on whether a page was ever touched.
 *
 * Anonymous maps of at least MAP_BYTES that the program makes itself count too (glibc's own do not
 * pass here). Smaller ones are the interpreter's arenas.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MAP_BYTES ((size_t)2 << 20)
#define MAX_MAPS 4096

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static atomic_llong live_bytes, peak_bytes;

EXPORT long long seqbench_live_bytes(void) { return atomic_load(&live_bytes); }
EXPORT long long seqbench_peak_bytes(void) { return atomic_load(&peak_bytes); }
EXPORT void seqbench_reset_peak(void) { atomic_store(&peak_bytes, atomic_load(&live_bytes)); }

static void add(long long bytes) {
    long long live = atomic_fetch_add_explicit(&live_bytes, bytes, memory_order_relaxed) + bytes;
    long long peak = atomic_load_explicit(&peak_bytes, memory_order_relaxed);
    while (live > peak && !atomic_compare_exchange_weak_explicit(
                              &peak_bytes, &peak, live, memory_order_relaxed, memory_order_relaxed))
        ;
}

/* What stands in the last bytes of a block. */
typedef struct {
    uint64_t bytes, check;
} Tag;
#define KEY 0x5e9be4c4a110ca7eULL
#define NO_SIZE ((size_t)-1)

static size_t (*usable_bytes)(void *);

/* Finds glibc's malloc_usable_size; what dlsym itself allocates meanwhile is not counted. */
static int ready(void) {
    static __thread int looking __attribute__((tls_model("initial-exec")));
    if (usable_bytes) return 1;
    if (looking) return 0;
    looking = 1;
    usable_bytes = (size_t(*)(void *))dlsym(RTLD_NEXT, "malloc_usable_size");
    looking = 0;
    return usable_bytes != 0;
}

static char *tag_of(void *block) { return (char *)block + usable_bytes(block) - sizeof(Tag); }

static void *counted(void *block, size_t bytes) {
    if (!block || !ready()) return block;
    Tag tag = {bytes, bytes ^ KEY ^ (uint64_t)(uintptr_t)block};
    memcpy(tag_of(block), &tag, sizeof tag);
    add((long long)bytes);
    return block;
}

/* The bytes that were asked for; NO_SIZE of a block that was not counted. */
static size_t size_of(void *block) {
    Tag tag;
    if (!ready() || usable_bytes(block) < sizeof tag) return NO_SIZE;
    memcpy(&tag, tag_of(block), sizeof tag);
    return (tag.bytes ^ KEY ^ (uint64_t)(uintptr_t)block) == tag.check ? tag.bytes : NO_SIZE;
}

static void uncount(void *block) {
    size_t bytes = size_of(block);
    if (bytes == NO_SIZE) return;
    memset(tag_of(block), 0, sizeof(Tag));
    add(-(long long)bytes);
}

static int too_large(size_t bytes) {
    if (bytes <= PTRDIFF_MAX - sizeof(Tag)) return 0;
    errno = ENOMEM;
    return 1;
}

EXPORT void *malloc(size_t bytes) {
    return too_large(bytes) ? 0 : counted(__libc_malloc(bytes + sizeof(Tag)), bytes);
}

EXPORT void *calloc(size_t count, size_t each) {
    size_t bytes;
    if (__builtin_mul_overflow(count, each, &bytes)) bytes = NO_SIZE;
    return too_large(bytes) ? 0 : counted(__libc_calloc(1, bytes + sizeof(Tag)), bytes);
}

EXPORT void free(void *block) {
    if (!block) return;
    int before = errno; /* free leaves it as it is */
    uncount(block);
    __libc_free(block);
    errno = before;
}

EXPORT void *realloc(void *block, size_t bytes) {
    if (!block) return malloc(bytes);
    if (!bytes) {
        free(block);
        return 0;
    }
    if (too_large(bytes)) return 0;
    size_t before = size_of(block);
    void *moved = __libc_realloc(block, bytes + sizeof(Tag));
    if (moved && before != NO_SIZE) add(-(long long)before);
    return counted(moved, bytes);
}

EXPORT void *reallocarray(void *block, size_t count, size_t each) {
    size_t bytes;
    if (__builtin_mul_overflow(count, each, &bytes)) bytes = NO_SIZE;
    return too_large(bytes) ? 0 : realloc(block, bytes);
}

EXPORT void *memalign(size_t alignment, size_t bytes) {
    return too_large(bytes) ? 0
                            : counted(__libc_memalign(alignment, bytes + sizeof(Tag)), bytes);
}

EXPORT void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

EXPORT int posix_memalign(void **block, size_t alignment, size_t bytes) {
    if (alignment % sizeof(void *) || !alignment || alignment & (alignment - 1)) return EINVAL;
    int before = errno;
    void *made = memalign(alignment, bytes);
    errno = before;
    if (!made) return ENOMEM;
    *block = made;
    return 0;
}

EXPORT void *valloc(size_t bytes) { return memalign((size_t)sysconf(_SC_PAGESIZE), bytes); }

EXPORT void *pvalloc(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return too_large(bytes) ? 0 : memalign(page, (bytes + page - 1) / page * page);
}

/* The slack of a block holds the tag: nobody may take it for his own. */
EXPORT size_t malloc_usable_size(void *block) {
    if (!block) return 0;
    size_t bytes = size_of(block);
    return bytes != NO_SIZE ? bytes : ready() ? usable_bytes(block) : 0;
}

#if __SIZEOF_POINTER__ == 8

static struct {
    uintptr_t begin, end;
} maps[MAX_MAPS];
static int n_maps;
static pthread_mutex_t maps_lock = PTHREAD_MUTEX_INITIALIZER;

static void note_map(uintptr_t begin, uintptr_t end) {
    if (begin >= end || n_maps == MAX_MAPS) return;
    maps[n_maps].begin = begin;
    maps[n_maps++].end = end;
    add((long long)(end - begin));
}

/* Forgets what was counted of a range, and says how much that was. */
static size_t forget_maps(uintptr_t begin, uintptr_t end) {
    size_t forgotten = 0;
    for (int i = n_maps - 1; i >= 0; i--) {
        uintptr_t from = maps[i].begin, to = maps[i].end;
        if (to <= begin || end <= from) continue;
        forgotten += (to < end ? to : end) - (from > begin ? from : begin);
        maps[i] = maps[--n_maps];
        add(-(long long)(to - from));
        note_map(from, begin);
        note_map(end, to);
    }
    return forgotten;
}

EXPORT void *mmap(void *wish, size_t bytes, int protection, int flags, int file, off_t offset) {
    void *made = (void *)syscall(SYS_mmap, wish, bytes, protection, flags, file, offset);
    if (made == MAP_FAILED) return made;
    uintptr_t begin = (uintptr_t)made;
    int counts = flags & MAP_ANONYMOUS && protection & PROT_WRITE && bytes >= MAP_BYTES;
    if (!counts && !(flags & MAP_FIXED)) return made;
    pthread_mutex_lock(&maps_lock);
    if (flags & MAP_FIXED) forget_maps(begin, begin + bytes);
    if (counts) note_map(begin, begin + bytes);
    pthread_mutex_unlock(&maps_lock);
    return made;
}

EXPORT void *mmap64(void *wish, size_t bytes, int protection, int flags, int file, off_t offset) {
    return mmap(wish, bytes, protection, flags, file, offset);
}

EXPORT int munmap(void *block, size_t bytes) {
    /* Before the call: once it is done, another thread may map the same addresses. */
    pthread_mutex_lock(&maps_lock);
    forget_maps((uintptr_t)block, (uintptr_t)block + bytes);
    pthread_mutex_unlock(&maps_lock);
    return (int)syscall(SYS_munmap, block, bytes);
}

EXPORT void *mremap(void *block, size_t before, size_t bytes, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    void *wish = flags & MREMAP_FIXED ? va_arg(rest, void *) : 0;
    va_end(rest);
    pthread_mutex_lock(&maps_lock);
    void *moved = (void *)syscall(SYS_mremap, block, before, bytes, flags, wish);
    if (moved != MAP_FAILED && forget_maps((uintptr_t)block, (uintptr_t)block + before))
        note_map((uintptr_t)moved, (uintptr_t)moved + bytes);
    pthread_mutex_unlock(&maps_lock);
    return moved;
}

#endif
