/* Calls functions of a library for another process, see emulated.py. Reads what to call and all memory that it works on;
 * answers with that memory. Behind and before each piece of memory lie bytes that nobody may write to. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef long long i64;
enum { MOST = 32, FENCE = 64, MARK = 0x5a };
/* All arguments are integers or addresses, each of which takes a register or eight bytes: what is one too many harms nobody. */
typedef void Function(int, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64,
                      i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64);

static void fail(const char *why) {
    fprintf(stderr, "%s\n", why);
    exit(3);
}

static void take(void *to, size_t size) {
    if (size && fread(to, size, 1, stdin) != 1) fail("a call ends too early");
}

static size_t whole(i64 size) { return ((size_t)size + 2 * FENCE + 63) / 64 * 64; }

int main(int count, char **words) {
    if (count < 2 || !dlopen("libgomp.so.1", RTLD_NOW | RTLD_GLOBAL)) fail("no library was named, or there is no OpenMP");
    void *library = dlopen(words[1], RTLD_NOW);
    if (!library) fail(dlerror());
    char name[64];
    while (fread(name, sizeof(name), 1, stdin) == 1) {
        i64 head[3], sizes[MOST], places[MOST][2], a[MOST] = {0}; /* threads, pieces of memory, arguments */
        char *memory[MOST];
        take(head, sizeof(head));
        if (head[1] > MOST || head[2] > MOST) fail("too many arguments");
        take(sizes, (size_t)head[1] * sizeof(i64));
        take(places, (size_t)head[2] * sizeof(places[0]));
        for (i64 i = 0; i < head[1]; i++) {
            memory[i] = aligned_alloc(64, whole(sizes[i]));
            memset(memory[i], MARK, whole(sizes[i]));
            take(memory[i] + FENCE, (size_t)sizes[i]);
        }
        for (i64 i = 0; i < head[2]; i++) a[i] = places[i][0] < 0 ? places[i][1] : (i64)(memory[places[i][0]] + FENCE + places[i][1]);
        Function *function = (Function *)dlsym(library, name);
        if (!function) fail(dlerror());
        function((int)head[0], a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15],
                 a[16], a[17], a[18], a[19], a[20], a[21], a[22], a[23], a[24], a[25], a[26], a[27], a[28], a[29], a[30], a[31]);
        for (i64 i = 0; i < head[1]; i++) {
            for (size_t at = 0; at < whole(sizes[i]); at++)
                if ((at < FENCE || at >= FENCE + (size_t)sizes[i]) && memory[i][at] != MARK) fail("memory beyond an array was written to");
            fwrite(memory[i] + FENCE, 1, (size_t)sizes[i], stdout);
            free(memory[i]);
        }
        fflush(stdout);
    }
    return 0;
}
