/**
 * How a run's processes are recognised: an environment variable that every child gets and its own children inherit,
 * holding the folder that the process works for. Survives whatever happens to the processes in between.
 */

export const RUN_TAG = "DAXFAULT_RUN";
/** The parent's pid, for the child's `dieWithParent`. */
export const PARENT_TAG = "DAXFAULT_PARENT";

/** Where programs are found without a PATH (confstr(3), _CS_PATH). */
const STANDARD_PATH = "/bin:/usr/bin:/usr/sbin:/sbin";

/** Variables for a child's environment. `directory`: the case's folder, or the run's. */
export function childEnvironment(directory: string): Readonly<Record<string, string>> {
  const { PATH = STANDARD_PATH } = process.env;
  return { PATH, [RUN_TAG]: directory, [PARENT_TAG]: String(process.pid) };
}

/** The same for programs of others, whose temporary files are to go with the folder. */
export function toolEnvironment(directory: string): Readonly<Record<string, string>> {
  return { ...childEnvironment(directory), TMPDIR: directory };
}

/** The parent's pid, from `childEnvironment`. */
export function parentPid(): number {
  const pid = Number(process.env[PARENT_TAG]);
  if (!Number.isSafeInteger(pid) || pid <= 0) {
    throw new Error(`${PARENT_TAG} is not a process id: this program is started by daxfault only`);
  }
  return pid;
}

/** The environment variable, `1`, of a process that a scenario may stop: its stop is no interference from outside. */
export const MAY_BE_STOPPED = "DAXFAULT_MAY_BE_STOPPED";
