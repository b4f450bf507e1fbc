/* Cameras of Video for Linux in one process, without a driver: each file `video0`, `video1`, … in the folder
 * FAKE_VIDEO is one. Its text is KIND WIDTH HEIGHT NAME. KIND is capture, silent (it sends no frames any more), or
 * metadata (it never does). A file that is deleted is a camera that is unplugged. Frames are grey (YUYV), 25 a second
 * unless it is set; the grey of frame n is 16 + 5 * (n % 40). Smaller sizes can be set. For tests: cc -shared -fPIC -o video_device.so video_device.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BUFFERS 4
#define DEVICES 64

static struct device {
    int used, fd, nonblocking, queue[BUFFERS], queued, frames;
    double due;
    char path[PATH_MAX], kind[16], name[32];
    unsigned width, height, size, stride, rate, set_width, set_height;
    unsigned char *memory;
} devices[DEVICES];

static int look(struct device *of) {
    FILE *file = fopen(of->path, "r");
    int read = file ? fscanf(file, "%15s %u %u %31[^\n]", of->kind, &of->width, &of->height, of->name) : 0;
    if (file) fclose(file);
    return read == 4;
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static int opened(const char *path, int flags) {
    const char *folder = getenv("FAKE_VIDEO");
    char real[PATH_MAX];
    if (!folder || !realpath(path, real)) return -1;
    size_t length = strlen(folder);
    if (strncmp(real, folder, length) || strncmp(real + length, "/video", 6)) return -1;
    for (struct device *one = devices; one < devices + DEVICES; one++)
        if (!one->used) {
            memset(one, 0, sizeof *one);
            strcpy(one->path, real);
            if (!look(one)) return -1;
            one->set_width = one->width, one->set_height = one->height, one->rate = 25;
            one->size = one->width * one->height * 2;
            one->stride = (one->size + 4095) / 4096 * 4096;
            one->fd = memfd_create("camera", MFD_CLOEXEC);
            if (ftruncate(one->fd, (off_t)one->stride * BUFFERS)) return -1;
            one->memory = mmap(0, (size_t)one->stride * BUFFERS, PROT_READ | PROT_WRITE, MAP_SHARED, one->fd, 0);
            one->nonblocking = (flags & O_NONBLOCK) != 0;
            one->used = 1;
            return one->fd;
        }
    return -1;
}

#define OPEN(symbol)                                                      \
    int symbol(const char *path, int flags, ...) {                        \
        static int (*real)(const char *, int, ...);                       \
        if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #symbol); \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        int mode = va_arg(rest, int);                                     \
        va_end(rest);                                                     \
        int fd = flags & O_RDWR ? opened(path, flags) : -1;                      \
        return fd >= 0 ? fd : real(path, flags, mode);                    \
    }
OPEN(open)
OPEN(open64)

/* A camera may be written to, even if its folder is mounted read-only, as devices may and files may not. */
int access(const char *path, int mode) {
    static int (*real)(const char *, int);
    if (!real) real = (int (*)(const char *, int))dlsym(RTLD_NEXT, "access");
    const char *folder = getenv("FAKE_VIDEO");
    size_t length = folder ? strlen(folder) : 0;
    int camera = folder && !strncmp(path, folder, length) && !strncmp(path + length, "/video", 6);
    return real(path, camera ? mode & ~W_OK : mode);
}

int close(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "close");
    for (struct device *one = devices; one < devices + DEVICES; one++)
        if (one->used && one->fd == fd) {
            munmap(one->memory, (size_t)one->stride * BUFFERS);
            one->used = 0;
        }
    return real(fd);
}

static int fails(int with) {
    errno = with;
    return -1;
}

static int next_frame(struct device *of, struct v4l2_buffer *buffer) {
    while (!of->queued || now() < of->due || strcmp(of->kind, "capture")) {
        if (of->nonblocking) return fails(EAGAIN);
        usleep(1000);
        if (!look(of)) return fails(ENODEV);
    }
    of->due = now() + 1.0 / of->rate;
    unsigned index = of->queue[0];
    memmove(of->queue, of->queue + 1, sizeof(int) * --of->queued);
    unsigned char *at = of->memory + (size_t)index * of->stride;
    for (unsigned i = 0; i < of->size; i += 2) at[i] = 16 + 5 * (of->frames % 40), at[i + 1] = 128;
    buffer->index = index;
    buffer->bytesused = of->size;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    buffer->sequence = of->frames++;
    double taken = now();
    buffer->timestamp.tv_sec = (time_t)taken;
    buffer->timestamp.tv_usec = (suseconds_t)((taken - (time_t)taken) * 1e6);
    return 0;
}

static int answer(struct device *of, unsigned long request, void *value) {
    struct v4l2_format *format = value;
    struct v4l2_buffer *buffer = value;
    if (!look(of)) return fails(ENODEV);
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *can = value;
        memset(can, 0, sizeof *can);
        strcpy((char *)can->driver, "fake");
        memcpy(can->card, of->name, sizeof can->card);
        can->device_caps = V4L2_CAP_STREAMING | (strcmp(of->kind, "metadata") ? V4L2_CAP_VIDEO_CAPTURE : V4L2_CAP_META_CAPTURE);
        can->capabilities = V4L2_CAP_DEVICE_CAPS | V4L2_CAP_STREAMING | V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_META_CAPTURE;
        return 0;
    }
    case VIDIOC_G_INPUT: *(int *)value = 0; return 0;
    case VIDIOC_ENUMINPUT: ((struct v4l2_input *)value)->std = 0; return 0;
    case VIDIOC_G_FMT:
    case VIDIOC_S_FMT:
        if (format->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || !strcmp(of->kind, "metadata")) return fails(EINVAL);
        if (request == VIDIOC_S_FMT && format->fmt.pix.width <= of->width && format->fmt.pix.height <= of->height) {
            of->set_width = format->fmt.pix.width;
            of->set_height = format->fmt.pix.height;
            of->size = of->set_width * of->set_height * 2;
        }
        format->fmt.pix.width = of->set_width;
        format->fmt.pix.height = of->set_height;
        format->fmt.pix.pixelformat = V4L2_PIX_FMT_YUYV;
        format->fmt.pix.field = V4L2_FIELD_NONE;
        format->fmt.pix.bytesperline = of->set_width * 2;
        format->fmt.pix.sizeimage = of->size;
        return 0;
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_streamparm *rate = value;
        struct v4l2_fract *period = &rate->parm.capture.timeperframe;
        if (request == VIDIOC_S_PARM && period->numerator) of->rate = period->denominator / period->numerator;
        rate->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        period->numerator = 1;
        period->denominator = of->rate;
        return 0;
    }
    case VIDIOC_REQBUFS: ((struct v4l2_requestbuffers *)value)->count = BUFFERS; return 0;
    case VIDIOC_QUERYBUF: buffer->length = of->size; buffer->m.offset = buffer->index * of->stride; return 0;
    case VIDIOC_QBUF: of->queue[of->queued++] = buffer->index; return 0;
    case VIDIOC_STREAMON:
    case VIDIOC_STREAMOFF: return 0;
    case VIDIOC_DQBUF: return next_frame(of, buffer);
    }
    return fails(ENOTTY);
}

int ioctl(int fd, unsigned long request, ...) {
    static int (*real)(int, unsigned long, ...);
    if (!real) real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    va_list rest;
    va_start(rest, request);
    void *value = va_arg(rest, void *);
    va_end(rest);
    for (struct device *one = devices; one < devices + DEVICES; one++)
        if (one->used && one->fd == fd) return answer(one, request & 0xffffffff, value);
    return real(fd, request, value);
}
