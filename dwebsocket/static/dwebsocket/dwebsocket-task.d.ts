/** How far a task is. For the script; the module has the same names. */
import type { Socket, SocketError } from "./dwebsocket.js";

export as namespace dwebsocketTask;

/** What is known of a task. Times are in seconds since 1970. */
export interface TaskState<Result = any> {
  /** The name; null until the server has told it. */
  readonly task: string | null;
  /** null: not started yet, or forgotten; "waiting": for another attempt. */
  readonly state: "running" | "waiting" | "done" | "failed" | null;
  readonly current: number;
  /** null if it isn't known. */
  readonly total: number | null;
  readonly text: string;
  readonly result: Result | null;
  readonly error: TaskFailure | null;
  readonly started: number | null;
  readonly ended: number | null;
  /** The last lines. */
  readonly log: readonly TaskLine[];
  /** The number of the first message since it was started. */
  readonly run: number;
  /** The number of the last message. */
  readonly seq: number;
}

export interface TaskFailure {
  /** The name of the exception's class. */
  readonly type: string;
  /** null if it isn't for those who watch. */
  readonly message: string | null;
}

export interface TaskLine {
  /** 1, 2, 3 ... */
  readonly number: number;
  readonly time: number;
  /** "INFO", "WARNING" ... */
  readonly level: string;
  readonly text: string;
}

export interface TaskChangeEvent extends Event {
  readonly state: TaskState;
  readonly previous: TaskState;
  /** false for what had happened before it was watched. */
  readonly live: boolean;
}

export interface TaskRefusedEvent extends Event {
  readonly error: SocketError;
}

export interface TaskWatchEventMap {
  change: TaskChangeEvent;
  refused: TaskRefusedEvent;
}

/** Keeps what is known of a task, for those who draw it themselves. */
export class TaskWatch extends EventTarget {
  /** @param task a reference that the server has signed, or a name that it allows. */
  constructor(socket: Socket, task: string);
  readonly state: TaskState;
  /** Whether the server has told what it knows. */
  readonly isKnown: boolean;
  stop(): void;

  addEventListener<Type extends keyof TaskWatchEventMap>(
    type: Type,
    listener: (this: TaskWatch, event: TaskWatchEventMap[Type]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Of the element's events; they bubble. */
export interface TaskElementEventMap {
  "task-progress": CustomEvent<TaskState & { live: boolean }>;
  "task-log": CustomEvent<{ lines: TaskLine[]; live: boolean; state: TaskState }>;
  "task-done": CustomEvent<TaskState & { live: boolean }>;
  "task-failed": CustomEvent<TaskState & { live: boolean }>;
  "task-refused": CustomEvent<{ error: { code: string; message: string } }>;
}

/** `<dwebsocket-task task="..." url="/tasks/" label="...">` */
export class TaskElement extends HTMLElement {
  readonly state: TaskState;
  /** A connection of the page's own, instead of one to `url`. */
  socket: Socket | null;
}

/** What people read; change it before elements are on the page, to translate it. */
export const texts: Record<string, string>;

declare global {
  interface HTMLElementTagNameMap {
    "dwebsocket-task": TaskElement;
  }
  interface HTMLElementEventMap extends TaskElementEventMap {}
}
