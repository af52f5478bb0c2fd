// SPDX-License-Identifier: GPL-2.0
/*
 * Nested translation on the SMMUv3 as a virtual machine monitor uses it, with the part
 * of the guest played by this program, too: it writes a context descriptor and a stage 1
 * page table to its own memory, which stage 2, the nesting parent, maps elsewhere, and
 * hands the guest's STEs and commands over to the kernel. The device is QEMU's `edu`;
 * where its DMA arrives tells what the SMMU has in its caches.
 *
 * `iopt-nest DEVICE [caches|msi|bench]`: the device's folder in sysfs; with "caches" only
 * what depends on invalidations; with "msi" only interrupts while HWPTs are replaced; with
 * "bench" what invalidations take, in lines for scripts/bench.sh ("bench: smmu-COMMAND
 * commands_N NUMBER": the instructions for N of them, counted as iommufd-invalidate.c
 * does), and nothing else. Writes a line "iopt-nest: pass NAME" or "iopt-nest: fail NAME"
 * for each thing that it looks at, to the kernel's log, so that announcements of faults
 * are there before them.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "guest.h"
#include "invalidate.h"

#define PAGE		4096UL
#define PAGES		64
/* Tables first; then pages for the device to write to, each mapped by itself */
#define TABLES		16
#define NOWHERE		-1
/* Bytes of a DMA: the SMMU reports each four that fault, and one report is expected. */
#define LEN		4

/* Where stage 2 has the pages, and where stage 1 has one of them for the device */
#define IPA		0x100000000UL
#define VA		0x40000000UL
/* The window of MSIs: IOMMU_IOAS_IOVA_RANGES leaves it out */
#define MSI		0x8000000UL

#define VSID		0x77UL
#define ASID		5UL
/* What a guest has in its commands for a VMID does not matter */
#define ANY_VMID	(0x1234UL << 32)

/* Commands, as the architecture numbers them */
#define CFGI_STE	0x03
#define CFGI_CD		0x05
#define CFGI_CD_ALL	0x06
#define NH_ALL		0x10
#define NH_ASID		0x11
#define NH_VA		0x12
#define NH_VAA		0x13
#define NSNH_ALL	0x30
#define ATC_INV		0x40
#define OF_ASID		(ASID << 48)
#define OF_VSID		(VSID << 32)
/* Two pages by a range: NUM; and TG, TTL, Leaf */
#define RANGE_0		(1UL << 12)
#define RANGE_1		(1UL << 10 | 3UL << 8 | 1)

#define TRANSLATION	0x10	/* F_TRANSLATION, in the event queue */

#define ROUNDS		40
/* HWPTs to be replaced while an interrupt is set up; and a rest now and then, in us */
#define MEANWHILE	10
#define PAUSE		500

/* A guest's page tables: which of the pages they are in */
struct tables {
	int l1, l2, l3;
};

static const struct tables first = { 1, 2, 3 }, second = { 5, 6, 7 };
#define L2_MSI		4
/* Context descriptors of two guests */
#define CD		0
#define CD_OTHER	8

static const char *path;
static char *mem;
static int iommufd, device, event, kmsg;
static off_t bar;
static uint32_t devid, ioas, parent, viommu, vdevice;
static uint32_t aborts, bypass, translate;
static bool failed;

/* ---- results ---- */

static void say(const char *format, ...)
{
	char line[256] = "<3>iopt-nest: ";
	size_t n = strlen(line);
	va_list args;

	va_start(args, format);
	n += vsnprintf(line + n, sizeof(line) - n, format, args);
	va_end(args);
	if (write(kmsg, line, n) != (ssize_t)n)
		die("/dev/kmsg");
}

static void result(bool ok, const char *what)
{
	say("%s %s", ok ? "pass" : "fail", what);
	failed |= !ok;
}

/* The kernel's log from now on */
static int log_from_here(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);

	if (fd < 0 || lseek(fd, 0, SEEK_END) < 0)
		die("/dev/kmsg");
	return fd;
}

/* Does it say so within a while? */
static bool log_says(int fd, const char *what)
{
	char record[1024];
	ssize_t n;

	for (int i = 0; i < 100; i++) {
		while ((n = read(fd, record, sizeof(record) - 1)) > 0) {
			record[n] = 0;
			/* but for what this program has said itself */
			if (strstr(record, what) && !strstr(record, "iopt-nest:"))
				return true;
		}
		usleep(20000);
	}
	return false;
}

/* ---- the guest's memory ---- */

static uint64_t *page(int n)
{
	return (uint64_t *)(mem + n * PAGE);
}

static uint64_t ipa(int n)
{
	return IPA + n * PAGE;
}

/* Pages and blocks, not global, for all to write, and so that the cache has them */
static uint64_t leaf(uint64_t to, bool is_page)
{
	return to | 1 | is_page << 1 | 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11;
}

static uint64_t va(int i)
{
	return VA + i * PAGE;
}

/* The guest writes a PTE, for the page at va(i) */
static void write_pte(const struct tables *t, int i, int to)
{
	__atomic_store_n(&page(t->l3)[i], leaf(ipa(to), true), __ATOMIC_SEQ_CST);
}

static void make_tables(const struct tables *t, int to)
{
	memset(page(t->l1), 0, PAGE);
	memset(page(t->l2), 0, PAGE);
	memset(page(t->l3), 0, PAGE);
	page(t->l1)[VA >> 30] = ipa(t->l2) | 3;
	page(t->l2)[0] = ipa(t->l3) | 3;
	write_pte(t, 0, to);
	write_pte(t, 1, to + 1);
	page(t->l1)[MSI >> 30] = ipa(L2_MSI) | 3;
	page(L2_MSI)[MSI >> 21] = leaf(MSI, false);
}

/* 39 bits of 4K pages, write-back and shared; TTB1 is not used; faults do not stall */
static void make_cd(int cd, const struct tables *t, uint64_t asid)
{
	uint64_t *p = page(cd);

	p[1] = ipa(t->l1);
	p[2] = 0;
	p[3] = 0xff;
	__atomic_store_n(&p[0], 25 | 1UL << 8 | 1UL << 10 | 3UL << 12 | 1UL << 30 | 1UL << 31 |
			 4UL << 32 | 1UL << 41 | 1UL << 45 | 1UL << 46 | 1UL << 47 |
			 asid << 48, __ATOMIC_SEQ_CST);
}

/* The guest's STE for a CD: translate by stage 1 */
static uint64_t ste(int cd)
{
	return 1 | 5 << 1 | ipa(cd);
}

#define STE_ABORT	1UL
#define STE_BYPASS	(1UL | 4UL << 1)
/* S1DSS: substream 0; the CD is write-back and shared */
#define STE_1		0xd6UL

/* ---- iommufd ---- */

#define DO(fd, nr, arg)			\
	do {				\
		if (ioctl(fd, nr, arg))	\
			die(#nr);	\
	} while (0)

static void map(int n, int pages, int from)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_READABLE,
		.ioas_id = ioas,
		.user_va = (uintptr_t)page(from),
		.length = pages * PAGE,
		.iova = ipa(n),
	};

	DO(iommufd, IOMMU_IOAS_MAP, &map);
}

static void unmap(int n)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = ioas,
		.iova = ipa(n),
		.length = PAGE,
	};

	DO(iommufd, IOMMU_IOAS_UNMAP, &unmap);
}

static int attach(uint32_t pt)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.pt_id = pt,
	};

	return ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) ? -errno : 0;
}

static int destroy(uint32_t id)
{
	struct iommu_destroy destroy = { .size = sizeof(destroy), .id = id };

	return ioctl(iommufd, IOMMU_DESTROY, &destroy) ? -errno : 0;
}

static int try_hwpt(uint32_t pt, uint32_t flags, uint32_t fault, uint64_t word0,
		    uint64_t word1, uint32_t *id)
{
	struct iommu_hwpt_arm_smmuv3 data = { .ste = { word0, word1 } };
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.flags = flags,
		.dev_id = devid,
		.pt_id = pt,
		.data_type = IOMMU_HWPT_DATA_ARM_SMMUV3,
		.data_len = sizeof(data),
		.data_uptr = (uintptr_t)&data,
		.fault_id = fault,
	};

	if (ioctl(iommufd, IOMMU_HWPT_ALLOC, &alloc))
		return -errno;
	*id = alloc.out_hwpt_id;
	return 0;
}

static uint32_t nested(uint32_t on, uint64_t word0, uint64_t word1)
{
	uint32_t id = 0;

	if (try_hwpt(on, 0, 0, word0, word1, &id))
		die("a nested HWPT");
	return id;
}

static uint32_t new_viommu(void)
{
	struct iommu_viommu_alloc alloc = {
		.size = sizeof(alloc),
		.type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
		.dev_id = devid,
		.hwpt_id = parent,
	};

	DO(iommufd, IOMMU_VIOMMU_ALLOC, &alloc);
	return alloc.out_viommu_id;
}

static uint32_t new_vdevice(uint32_t on)
{
	struct iommu_vdevice_alloc alloc = {
		.size = sizeof(alloc),
		.viommu_id = on,
		.dev_id = devid,
		.virt_id = VSID,
	};

	DO(iommufd, IOMMU_VDEVICE_ALLOC, &alloc);
	return alloc.out_vdevice_id;
}

/* Hand commands over; how many took effect, and the error, if there is one */
static int issue_as(uint32_t type, const struct iommu_viommu_arm_smmuv3_invalidate *cmds,
		    uint32_t *n)
{
	struct iommu_hwpt_invalidate invalidate = {
		.size = sizeof(invalidate),
		.hwpt_id = viommu,
		.data_uptr = (uintptr_t)cmds,
		.data_type = type,
		.entry_len = sizeof(*cmds),
		.entry_num = *n,
	};
	int rc = ioctl(iommufd, IOMMU_HWPT_INVALIDATE, &invalidate) ? -errno : 0;

	*n = invalidate.entry_num;
	return rc;
}

static int issue(const struct iommu_viommu_arm_smmuv3_invalidate *cmds, uint32_t *n)
{
	return issue_as(IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3, cmds, n);
}

static int invalidate(uint64_t word0, uint64_t word1)
{
	struct iommu_viommu_arm_smmuv3_invalidate cmd = { .cmd = { word0, word1 } };
	uint32_t n = 1;
	int rc = issue(&cmd, &n);

	return n == !rc ? rc : -ERANGE;
}

/* ---- the device ---- */

static void write_reg(uint32_t reg, uint64_t value, size_t size)
{
	if (pwrite(device, &value, size, bar + reg) != (ssize_t)size)
		die("a register of the device");
}

static void dma(uint64_t from, uint64_t to, uint64_t flags)
{
	uint64_t command;

	write_reg(EDU_DMA_SRC, from, 8);
	write_reg(EDU_DMA_DST, to, 8);
	write_reg(EDU_DMA_CNT, LEN, 8);
	write_reg(EDU_DMA_CMD, EDU_DMA_START | flags, 8);
	for (int i = 0; i < 1000; i++) {
		if (pread(device, &command, 8, bar + EDU_DMA_CMD) != 8)
			die("a register of the device");
		if (!(command & EDU_DMA_START))
			return;
		usleep(5000);
	}
	fprintf(stderr, "the device's DMA does not end\n");
	exit(1);
}

/* The page that has what the device writes to an address, if exactly one has it */
static int lands(uint64_t at)
{
	int where = NOWHERE;

	for (int n = TABLES; n < PAGES; n++)
		memset(page(n), 0, LEN);
	dma(EDU_BUFFER, at, EDU_DMA_TO_RAM);
	for (int n = TABLES; n < PAGES; n++) {
		if (!page(n)[0])
			continue;
		if (where != NOWHERE)
			return -2;
		where = n;
	}
	return where;
}

/*
 * The device cannot write there, and the SMMU says so. The driver prints no more than 10
 * events in 5 seconds, whoever's they are: with more faults than that at a time, the line
 * would be missing where nothing is wrong.
 */
static bool faults(uint64_t at)
{
	char text[32];
	int log, where;
	bool seen;

	snprintf(text, sizeof(text), "event 0x%02x received", TRANSLATION);
	say("expect-splat: begin %s", text);
	log = log_from_here();
	where = lands(at);
	seen = log_says(log, text);
	close(log);
	say("expect-splat: end");
	return where == NOWHERE && seen;
}

/* Send the device's MSI to the event, or to nothing. */
static void set_msi(bool on)
{
	if (set_irq(device, VFIO_PCI_MSI_IRQ_INDEX, on ? event : -1))
		die("VFIO_DEVICE_SET_IRQS");
}

static bool signaled(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n;

	return poll(&p, 1, ms) == 1 && read(fd, &n, sizeof(n)) == sizeof(n) && n == 1;
}

/* The device raises its MSI: it arrives, once */
static bool interrupts(void)
{
	bool arrived;

	write_reg(EDU_RAISE, 1, 4);
	arrived = signaled(event, 2000);
	write_reg(EDU_ACK, 1, 4);
	return arrived;
}

/* It raises it, and it does not arrive; nor has it when the next one may be expected */
static bool silent(void)
{
	bool arrived;

	write_reg(EDU_RAISE, 1, 4);
	arrived = signaled(event, 300);
	write_reg(EDU_ACK, 1, 4);
	return !signaled(event, 0) && !arrived;
}

/* ---- opening and closing ---- */

static void open_cdev(void)
{
	char folder[PATH_MAX], name[PATH_MAX] = "";
	struct dirent *entry;
	DIR *dir;

	snprintf(folder, sizeof(folder), "%s/vfio-dev", path);
	dir = opendir(folder);
	if (!dir)
		die(folder);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			snprintf(name, sizeof(name), "/dev/vfio/devices/%s", entry->d_name);
	closedir(dir);
	device = open(name, O_RDWR);
	if (device < 0)
		die(name);
}

static void bind_device(void)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = iommufd,
	};
	struct vfio_region_info info = { .argsz = sizeof(info) };
	uint16_t command;

	open_cdev();
	DO(device, VFIO_DEVICE_BIND_IOMMUFD, &bind);
	devid = bind.out_devid;

	/* memory and bus mastering */
	info.index = VFIO_PCI_CONFIG_REGION_INDEX;
	DO(device, VFIO_DEVICE_GET_REGION_INFO, &info);
	if (pread(device, &command, 2, info.offset + 4) != 2)
		die("the device's command register");
	command |= 1 << 1 | 1 << 2;
	if (pwrite(device, &command, 2, info.offset + 4) != 2)
		die("the device's command register");

	info.index = VFIO_PCI_BAR0_REGION_INDEX;
	DO(device, VFIO_DEVICE_GET_REGION_INFO, &info);
	bar = info.offset;
}

/* The guest's memory, and stage 2 that maps it */
static void make_parent(void)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommu_hwpt_alloc hwpt = {
		.size = sizeof(hwpt),
		.flags = IOMMU_HWPT_ALLOC_NEST_PARENT,
		.dev_id = devid,
	};

	DO(iommufd, IOMMU_IOAS_ALLOC, &alloc);
	ioas = alloc.out_ioas_id;
	map(0, TABLES, 0);
	for (int n = TABLES; n < PAGES; n++)
		map(n, 1, n);
	hwpt.pt_id = ioas;
	DO(iommufd, IOMMU_HWPT_ALLOC, &hwpt);
	parent = hwpt.out_hwpt_id;
}

/* The device writes what it has read here, from now on */
static void fill_device(void)
{
	memset(page(TABLES), 0x5a, LEN);
	dma(ipa(TABLES), EDU_BUFFER, 0);
}

/* All of it, up to a device that translates by the guest's tables */
static void start(void)
{
	iommufd = open("/dev/iommu", O_RDWR);
	if (iommufd < 0)
		die("/dev/iommu");
	bind_device();
	make_parent();
	viommu = new_viommu();
	if (attach(parent))
		die("attaching the parent");
	fill_device();
	make_tables(&first, 20);
	make_cd(CD, &first, ASID);
	vdevice = new_vdevice(viommu);
	translate = nested(viommu, ste(CD), STE_1);
	if (attach(translate))
		die("attaching what translates");
}

/* ---- what is looked at ---- */

static void test_info(void)
{
	struct iommu_hw_info_arm_smmuv3 regs = {};
	struct iommu_hw_info info = {
		.size = sizeof(info),
		.dev_id = devid,
		.data_len = sizeof(regs),
		.data_uptr = (uintptr_t)&regs,
	};
	unsigned int bus, dev, fn, sid;

	DO(iommufd, IOMMU_GET_HW_INFO, &info);
	say("SMMU: IDR0-5 %08x %08x %08x %08x %08x %08x, IIDR %08x, AIDR %08x",
	    regs.idr[0], regs.idr[1], regs.idr[2], regs.idr[3], regs.idr[4], regs.idr[5],
	    regs.iidr, regs.aidr);
	/* both stages; no ATS there, and so none for the device */
	result(info.out_data_type == IOMMU_HW_INFO_TYPE_ARM_SMMUV3 &&
	       info.data_len == sizeof(regs) && (regs.idr[0] & 3) == 3 &&
	       !(regs.idr[0] & 1 << 10) &&
	       info.out_capabilities & IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
	       "the SMMU's registers, and that there is no ATS");

	if (sscanf(strrchr(path, '/') + 1, "%*x:%x:%x.%x", &bus, &dev, &fn) != 3)
		die(path);
	sid = bus << 8 | dev << 3 | fn;
	say("stream ID %#x, to the guest %#lx", sid, VSID);
	if (sid == VSID)
		die("another stream ID for the guest");
	/* VFIO_TYPE1_NESTING_IOMMU; -ENODEV where only the group is wanting */
	result(!ioctl(iommufd, VFIO_CHECK_EXTENSION, 6) &&
	       ioctl(iommufd, VFIO_SET_IOMMU, 6) == -1 && errno == EINVAL,
	       "VFIO's own nesting is not there");
}

static void test_attach(void)
{
	struct iommu_fault_alloc fault = { .size = sizeof(fault) };
	uint32_t id;
	int rc;

	result(!attach(parent), "the parent is attached");
	fill_device();
	result(lands(ipa(21)) == 21, "DMA lands where stage 2 says");

	viommu = new_viommu();
	aborts = nested(viommu, STE_ABORT, 0);
	bypass = nested(viommu, STE_BYPASS, 0);
	result(!attach(bypass) && lands(ipa(22)) == 22, "a guest that bypasses: stage 2");
	result(!attach(aborts) && lands(ipa(22)) == NOWHERE, "a guest that aborts: nothing");
	result(!attach(bypass) && lands(ipa(23)) == 23, "and bypass again");

	make_tables(&first, 20);
	make_cd(CD, &first, ASID);
	translate = nested(viommu, ste(CD), STE_1);
	result(attach(translate) == -ENOENT, "translation needs a vdevice");
	result(try_hwpt(parent, 0, 0, ste(CD), STE_1, &id) == -EOPNOTSUPP,
	       "a STE needs a vIOMMU");
	result(try_hwpt(viommu, 0, 0, 1 | 6 << 1, 0, &id) == -EIO &&
	       try_hwpt(viommu, 0, 0, ste(CD), STE_1 | 1UL << 19, &id) == -EIO,
	       "a STE that is not a guest's to write is refused");
	DO(iommufd, IOMMU_FAULT_QUEUE_ALLOC, &fault);
	/* ... when the HWPT is attached, not before */
	rc = try_hwpt(viommu, IOMMU_HWPT_FAULT_ID_VALID, fault.out_fault_id, STE_BYPASS, 0, &id);
	result(!rc && attach(id) == -EOPNOTSUPP && lands(ipa(24)) == 24 && !destroy(id),
	       "a fault queue is refused, and the device as it was");
	close(fault.out_fault_fd);
	destroy(fault.out_fault_id);
	vdevice = new_vdevice(viommu);
	result(!attach(translate) && lands(VA) == 20 && lands(va(1)) == 21,
	       "translation: DMA lands where both stages say");

	/* What the device has read it writes next to it */
	memset(page(20), 0xa7, LEN);
	dma(VA, EDU_BUFFER, 0);
	memset(page(21), 0, LEN);
	dma(EDU_BUFFER, va(1), EDU_DMA_TO_RAM);
	result(!memcmp(page(20), page(21), LEN) && (uint32_t)page(20)[0] == 0xa7a7a7a7,
	       "the device reads from there, too");
}

/*
 * The PTE changes: the old place until the invalidation, the new one after it. Each
 * command has a page of its own, so that what another one has left in the TLB says
 * nothing about it.
 */
static void test_command(const char *name, uint64_t word0, uint64_t word1, int i)
{
	int cached, before, after, rc;
	char text[80];

	write_pte(&first, i, 22);
	cached = lands(va(i));
	write_pte(&first, i, 23);
	before = lands(va(i));
	rc = invalidate(word0, word1);
	after = lands(va(i));
	snprintf(text, sizeof(text), "%s: the old place before, the new one after", name);
	if (cached != 22 || before != 22 || rc || after != 23)
		say("%s: %d, %d %d, %d", name, cached, before, rc, after);
	result(cached == 22 && before == 22 && !rc && after == 23, text);
}

/*
 * Another table, by the same CD; the ASID tells the TLB's entries apart. The STE is
 * written before and after, so that no CD is cached that another command has left.
 */
static void test_cd_command(const char *name, uint64_t word0, uint64_t word1)
{
	int cached, before, after, rc;
	char text[80];

	if (attach(bypass) || attach(translate))
		die("the STE again");
	cached = lands(VA);
	make_cd(CD, &second, ASID + 1);
	before = lands(VA);
	rc = invalidate(word0, word1);
	after = lands(VA);
	snprintf(text, sizeof(text), "%s: the old table before, the new one after", name);
	if (cached != 20 || before != 20 || rc || after != 40)
		say("%s: %d, %d %d, %d", name, cached, before, rc, after);
	result(cached == 20 && before == 20 && !rc && after == 40, text);
	make_cd(CD, &first, ASID);
	if (attach(bypass) || attach(translate))
		die("the STE again");
}

static void test_commands(void)
{
	struct iommu_viommu_arm_smmuv3_invalidate array[3] = {};
	unsigned int bus = 0, dev = 0, fn = 0;
	uint32_t n, m;
	int i, rc;

	test_command("NH_VA", NH_VA | OF_ASID, va(2), 2);
	test_command("NH_VA, the leaf only", NH_VA | OF_ASID | ANY_VMID, va(3) | 1, 3);
	test_command("NH_VAA", NH_VAA, va(4), 4);
	test_command("NH_ASID", NH_ASID | OF_ASID | ANY_VMID, 0, 5);
	test_command("NH_ALL", NH_ALL | ANY_VMID, 0, 6);
	test_command("NSNH_ALL", NSNH_ALL, 0, 7);
	/* the second page of the range */
	test_command("NH_VA of a range", NH_VA | OF_ASID | RANGE_0, va(8) | RANGE_1, 9);
	test_command("NH_VAA of a range", NH_VAA | RANGE_0, va(10) | RANGE_1, 11);

	make_tables(&second, 40);
	test_cd_command("CFGI_CD", CFGI_CD | OF_VSID, 1);
	test_cd_command("CFGI_CD_ALL", CFGI_CD_ALL | OF_VSID, 0);

	result(invalidate(ATC_INV | OF_VSID, 52) == -EIO, "ATC_INV is refused");
	sscanf(strrchr(path, '/') + 1, "%*x:%x:%x.%x", &bus, &dev, &fn);
	result(invalidate(CFGI_CD_ALL | (uint64_t)(bus << 8 | dev << 3 | fn) << 32, 0) == -EIO,
	       "the stream ID that the host has is refused");
	result(invalidate(CFGI_STE | OF_VSID, 1) == -EIO &&
	       invalidate(NH_ALL, 1) == -EIO && invalidate(0x46, 0) == -EIO,
	       "other commands, and bits, are refused");
	n = m = 0;
	result(!issue(NULL, &n) && issue_as(0x7fffffff, NULL, &m) == -EINVAL,
	       "an array of no commands tells whether they are known");

	array[0].cmd[0] = NH_ALL;
	array[1].cmd[0] = CFGI_STE | OF_VSID;
	array[2].cmd[0] = CFGI_CD_ALL | OF_VSID;
	n = 3;
	write_pte(&first, 12, 22);
	i = lands(va(12));
	write_pte(&first, 12, 23);
	rc = issue(array, &n);
	result(i == 22 && rc == -EIO && n == 1 && lands(va(12)) == 23,
	       "those before a bad one take effect, and are counted");
}

static void test_stage2(void)
{
	bool ok;

	write_pte(&first, 13, 30);
	write_pte(&first, 14, 31);
	ok = lands(va(13)) == 30;
	unmap(30);
	result(ok && faults(va(13)), "a page that stage 2 has no more stops the device");
	result(lands(va(14)) == 31, "the next one does not");
	map(30, 1, 31);
	result(lands(va(13)) == 31, "stage 2 has another page there: it lands in that");
	unmap(30);
	map(30, 1, 30);
	result(lands(va(13)) == 30, "and in the first one again");
}

/* Two guests with one stage 2 have the same ASID, and nothing in common */
static void test_other_guest(void)
{
	uint32_t id = new_viommu(), bypass_there, there;
	int a, b;

	make_tables(&second, 41);
	make_cd(CD_OTHER, &second, ASID);
	a = lands(VA);
	if (attach(bypass) || destroy(vdevice))
		die("the first guest's device");
	bypass_there = nested(id, STE_BYPASS, 0);
	there = nested(id, ste(CD_OTHER), STE_1);
	if (attach(bypass_there))
		die("the second guest's device");
	vdevice = new_vdevice(id);
	if (attach(there))
		die("the second guest's device");
	b = lands(VA);
	result(a == 20 && b == 41, "two guests with the same ASID are apart");
	unmap(41);
	result(faults(VA), "stage 2 stops the second one as well");
	map(41, 1, 41);
	result(lands(VA) == 41, "and lets it go on");
	if (attach(parent) || destroy(vdevice) || destroy(there) || destroy(bypass_there))
		die("the second guest's device");
	result(!destroy(id), "a vIOMMU goes when nothing needs it");
	vdevice = new_vdevice(viommu);
	result(!attach(translate) && lands(VA) == 20, "back at the first guest");
}

static void test_msi(void)
{
	int log;
	bool ok;

	set_msi(true);
	result(interrupts(), "an MSI arrives through both stages");
	result(!attach(bypass) && interrupts(), "and through a guest that bypasses");
	result(!attach(aborts) && silent(), "and not through one that aborts");
	result(!attach(translate) && interrupts(), "and again through both stages");
	set_msi(false);

	/* so stage 1 has a say in it */
	set_msi(true);
	page(L2_MSI)[MSI >> 21] = 0;
	if (invalidate(NH_ALL, 0))
		die("NH_ALL");
	say("expect-splat: begin event 0x%02x received", TRANSLATION);
	log = log_from_here();
	ok = silent();
	ok &= log_says(log, "event 0x10 received");
	close(log);
	say("expect-splat: end");
	result(ok, "none where the guest has not mapped the window");
	page(L2_MSI)[MSI >> 21] = leaf(MSI, false);
	if (invalidate(NH_ALL, 0))
		die("NH_ALL");
	result(interrupts(), "it has again");
	set_msi(false);
}

static bool stop;
/* Attaches that have begun, and that have ended */
static unsigned long begun, ended;

/* Each HWPT is a new one, and the one before it goes: its domain is free then */
static void *replace(void *last)
{
	uint32_t id = 0, old;

	for (int i = 0; !__atomic_load_n(&stop, __ATOMIC_SEQ_CST); i++) {
		old = id;
		id = i % 3 ? nested(viommu, ste(i % 3 == 1 ? CD : CD_OTHER), STE_1) :
			     nested(viommu, STE_BYPASS, 0);
		__atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
		if (attach(id))
			die("replacing a HWPT");
		__atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
		if (i && destroy(old))
			die("a HWPT that was replaced");
		/*
		 * So that some are free for a while, and not at once the next one. Two
		 * pieces of memory take turns: an odd number, so that it is either.
		 */
		if (i % 5 == 4)
			usleep(PAUSE);
	}
	*(uint32_t *)last = id;
	return NULL;
}

/*
 * Interrupts are set up while another thread replaces HWPTs, and none is lost. Counted
 * are the attaches that began after a SET_IRQS and ended before it: those that have ended
 * at its end, less those that had begun at its beginning.
 */
static void test_msi_meanwhile(void)
{
	unsigned int arrived = 0, rounds;
	unsigned long meanwhile = 0;
	pthread_t thread;
	uint32_t last = 0;

	make_tables(&second, 42);
	make_cd(CD_OTHER, &second, ASID + 2);
	if (pthread_create(&thread, NULL, replace, &last))
		die("pthread_create");
	for (rounds = 0; rounds < ROUNDS || (meanwhile < MEANWHILE && rounds < 10 * ROUNDS);
	     rounds++) {
		unsigned long from = __atomic_load_n(&begun, __ATOMIC_SEQ_CST), to;

		set_msi(true);
		to = __atomic_load_n(&ended, __ATOMIC_SEQ_CST);
		meanwhile += to > from ? to - from : 0;
		arrived += interrupts();
		set_msi(false);
	}
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
	say("%u of %u MSIs, %lu HWPTs replaced, %lu of them during SET_IRQS",
	    arrived, rounds, ended, meanwhile);
	result(arrived == rounds, "each MSI arrives while HWPTs are replaced");
	result(meanwhile >= MEANWHILE, "some of these were replaced while one was set up");
	result(!attach(translate) && lands(VA) == 20 && !destroy(last),
	       "and DMA lands where it should then");
}

static void test_order(void)
{
	uint32_t other = nested(viommu, ste(CD), STE_1);

	result(!attach(aborts) && lands(VA) == NOWHERE, "to abort: nothing");
	result(!attach(bypass) && lands(ipa(24)) == 24, "to bypass: stage 2");
	result(!attach(translate) && lands(VA) == 20, "to translation: both");
	result(destroy(viommu) == -EBUSY && destroy(translate) == -EBUSY &&
	       destroy(parent) == -EBUSY, "what is in use stays");
	result(!destroy(vdevice) && lands(VA) == 20, "a vdevice may go, the device goes on");
	result(invalidate(CFGI_CD_ALL | OF_VSID, 0) == -EIO, "its stream ID is nobody's");
	result(attach(other) == -ENOENT && lands(VA) == 20,
	       "an attach that fails leaves the device as it was");
	if (destroy(other))
		die("a HWPT");
	vdevice = new_vdevice(viommu);
	result(!invalidate(CFGI_CD_ALL | OF_VSID, 0), "it may come again");
}

/* ---- the device goes ---- */

static void write_file(const char *name, const char *what)
{
	int fd = open(name, O_WRONLY);

	if (fd < 0 || write(fd, what, strlen(what)) != (ssize_t)strlen(what))
		die(name);
	close(fd);
}

static void give_to_vfio(void)
{
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%s/driver_override", path);
	write_file(name, "vfio-pci");
	write_file("/sys/bus/pci/drivers_probe", strrchr(path, '/') + 1);
}

static void *remove_device(void *unused)
{
	char name[PATH_MAX];

	(void)unused;
	snprintf(name, sizeof(name), "%s/remove", path);
	write_file(name, "1");
	return NULL;
}

static void *unbind_device(void *unused)
{
	(void)unused;
	write_file("/sys/bus/pci/drivers/vfio-pci/unbind", strrchr(path, '/') + 1);
	return NULL;
}

/* The host wants the device back, which translates by a guest's tables */
static void test_going(const char *name, void *(*go)(void *))
{
	char text[80];
	pthread_t thread;
	int wanted;
	bool ok;

	wanted = eventfd(0, EFD_NONBLOCK);
	if (wanted < 0)
		die("eventfd");
	if (set_irq(device, VFIO_PCI_REQ_IRQ_INDEX, wanted))
		die("VFIO_PCI_REQ_IRQ_INDEX");
	set_msi(true);
	ok = lands(VA) == 20;
	if (pthread_create(&thread, NULL, go, NULL))
		die("pthread_create");
	ok &= signaled(wanted, 20000);
	ok &= lands(VA) == 20 && interrupts();
	close(device);
	pthread_join(thread, NULL);
	close(wanted);
	snprintf(text, sizeof(text), "%s of a device that translates", name);
	result(ok, text);

	snprintf(text, sizeof(text), "%s: the vdevice has gone, its ID is nobody's", name);
	result(invalidate(CFGI_CD_ALL | OF_VSID, 0) == -EIO && destroy(vdevice) == -ENOENT &&
	       !invalidate(NH_ALL, 0), text);
	snprintf(text, sizeof(text), "%s: what is left can be destroyed, in order", name);
	result(destroy(viommu) == -EBUSY && !destroy(translate) && !destroy(viommu) &&
	       !destroy(parent), text);
	close(iommufd);
}

/* The virtual machine is killed; the device is as good as new */
static void test_kill(void)
{
	int ready[2], status;
	char byte = 0;
	pid_t pid;

	if (pipe(ready))
		die("pipe");
	pid = fork();
	if (!pid) {
		start();
		set_msi(true);
		byte = lands(VA) == 20;
		if (write(ready[1], &byte, 1) != 1)
			die("a pipe");
		pause();
		_exit(0);
	}
	/* so that the end of the child is an end of the pipe, too */
	close(ready[1]);
	if (pid < 0 || read(ready[0], &byte, 1) != 1)
		die("the virtual machine");
	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	result(byte && WIFSIGNALED(status), "a virtual machine is killed");
}

/* ---- what it takes ---- */

static void bench_command(const char *name, uint64_t word0, uint64_t word1)
{
	static struct iommu_viommu_arm_smmuv3_invalidate cmds[MAX_COMMANDS];

	for (int i = 0; i < MAX_COMMANDS; i++) {
		cmds[i].cmd[0] = word0;
		cmds[i].cmd[1] = word1;
	}
	measure(name, iommufd, viommu, IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
		cmds, sizeof(*cmds));
}

static void bench(void)
{
	start();
	bench_command("smmu-nh_va", NH_VA | OF_ASID, VA | 1);
	bench_command("smmu-nh_asid", NH_ASID | OF_ASID, 0);
	bench_command("smmu-cfgi_cd", CFGI_CD | OF_VSID, 1);
}

int main(int argc, char **argv)
{
	bool caches = argc == 3 && !strcmp(argv[2], "caches");
	bool msi = argc == 3 && !strcmp(argv[2], "msi");
	bool only_bench = argc == 3 && !strcmp(argv[2], "bench");

	if (argc != 2 && !caches && !msi && !only_bench)
		return 2;
	path = argv[1];
	kmsg = open("/dev/kmsg", O_WRONLY);
	if (kmsg < 0)
		die("/dev/kmsg");
	event = eventfd(0, EFD_NONBLOCK);
	if (event < 0)
		die("eventfd");
	mem = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		die("mmap");

	if (only_bench) {
		bench();
		return 0;
	}
	if (msi) {
		start();
		test_msi_meanwhile();
		say("complete");
		return failed;
	}

	iommufd = open("/dev/iommu", O_RDWR);
	if (iommufd < 0)
		die("/dev/iommu");
	bind_device();
	test_info();
	make_parent();
	test_attach();
	test_commands();
	test_stage2();
	if (!caches) {
		test_other_guest();
		test_msi();
		test_msi_meanwhile();
		test_order();
	}
	close(device);
	close(iommufd);
	if (!caches) {
		start();
		test_going("VFIO unbind", unbind_device);
		give_to_vfio();
		start();
		test_going("PCI remove", remove_device);
		write_file("/sys/bus/pci/rescan", "1");
		give_to_vfio();
		test_kill();
		start();
		result(lands(VA) == 20 && !invalidate(NH_ALL, 0), "the next one has the device");
		close(device);
		close(iommufd);
	}
	say("complete");
	return failed;
}
