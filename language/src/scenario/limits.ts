/** Every limit that scenarios, proposals and expectations must keep, with its reason. Each is named in the message of what breaks it. */

/** Base page of x86-64: what mmap, memslots and FUSE_SETUPMAPPING count in. */
export const PAGE_BYTES: bigint = 4096n;
/** What a page-table entry of the second level maps on x86-64, and a page of hugetlbfs by default. */
export const HUGE_PAGE_BYTES: bigint = 2n * 1024n * 1024n;
/** DAX window of the micro-guest's address space, and thus the largest file for layout `nvdimm`. */
export const WINDOW_BYTES_MAX: bigint = 64n * 1024n * 1024n;
/** Keeps a run's disk use and the time to fill a file small. */
export const FILE_BYTES_MAX: bigint = 64n * 1024n * 1024n;
/** vCPUs of the guest: the micro-guest's table of them. */
export const VCPUS_MAX = 2;
/** Tasks of the guest: the micro-guest's task table. */
export const GUEST_TASKS_MAX = 104;
/** Copies of one actor: as many as there are tasks. */
export const COPIES_MAX: number = GUEST_TASKS_MAX;
/** Each is a process. */
export const HOST_ACTORS_MAX = 4;
/** Steps of one actor: the micro-guest's step table. */
export const STEPS_MAX = 64;
/** Distinct signal names: the micro-guest keeps them as bits. */
export const SIGNALS_MAX = 16;
/** Bytes that one copy moves: the task's buffer in the micro-guest. */
export const COPY_BYTES_MAX = 64;
/** Rules for the server of a mount. */
export const FAULTS_MAX = 16;
/** Longer than any page really takes, and short enough that a delay never looks like a hang. */
export const FAULT_DELAY_MS_MAX = 2000;
/** Scenarios that one file may expand to. */
export const EXPANSIONS_MAX = 256;
/** Bytes of a scenario file. */
export const FILE_TEXT_MAX: number = 256 * 1024;
/** Scenarios of all files and folders that a command reads. */
export const SCENARIOS_MAX = 4096;
/** Proposals of all files and folders that a command reads, the presets included. */
export const PROPOSALS_MAX = 512;
/** Rows of a file of expectations, and names (ids, patterns) of a row: each scenario is looked up in all of them. */
export const ROWS_MAX = 1024;
export const NAMES_MAX = 128;
export const ID_LENGTH_MAX = 64;
export const WINDOW_MAPPINGS_MAX = 16;

/** Widths that one load or store instruction has. */
export const accessSizes: readonly number[] = [1, 2, 4, 8, 16, 32, 64];
/** Of a child's load. */
export const forkSizes: readonly number[] = [1, 2, 4, 8, 16];
/** LOCK XADD up to 8, LOCK CMPXCHG16B. */
export const atomicSizes: readonly number[] = [1, 2, 4, 8, 16];
