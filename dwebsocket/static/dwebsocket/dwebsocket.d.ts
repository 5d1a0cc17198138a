/** A WebSocket that comes back. For the script; the module has the same names. */
export as namespace dwebsocket;

/** All times are in milliseconds. */
export interface SocketOptions {
  /** Subprotocols to offer, or a function that is asked for them each time. */
  protocols?: Source<string | string[]>;
  /** Limit of the random delay before the first new attempt: 1000. It doubles. */
  minDelay?: number;
  /** Limit of all these delays: 30000. */
  maxDelay?: number;
  /** How long an attempt may take: 20000. */
  connectTimeout?: number;
  /** How long a reply may take: 10000; null for any time. */
  requestTimeout?: number | null;
  /** Messages that may wait while there is no connection: 100. */
  queueSize?: number;
  /** A standstill of the page's timers so long counts as sleep: 90000. */
  sleepTime?: number;
  /** Ask by plain HTTP how a connection was refused: true. */
  probe?: boolean;
  /** Whether to stay closed after such an end: `dwebsocket.isFinal`. */
  isFinal?: (end: SocketEnd) => boolean;
}

export type Source<T> = T | (() => T | Promise<T>);

export type SocketState = "connecting" | "open" | "waiting" | "offline" | "closed";

export type SocketData = string | ArrayBuffer | ArrayBufferView | Blob;

/** How a connection, or the attempt to get one, ended. */
export interface SocketEnd {
  /** The close code; 1006 if there was none. */
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
  /** How the handshake was refused, as far as is known. */
  readonly status: number | "redirect" | null;
  /** The same for people. */
  readonly why: string;
}

export interface SocketCloseEvent extends Event, SocketEnd {
  /** It stays closed, until `connect()` is called. */
  readonly final: boolean;
  /** Until the next attempt; null if final. */
  readonly delay: number | null;
  /** The messages that waited, and won't be sent any more; none unless final. */
  readonly unsent: SocketData[];
}

export interface SocketStateEvent extends Event {
  readonly state: SocketState;
  readonly previous: SocketState;
}

export interface SocketMessageEvent extends Event {
  readonly data: string | ArrayBuffer;
}

export interface SocketErrorEvent extends Event {
  readonly error: SocketError;
}

export interface SocketEventMap {
  /** There is a connection. What listeners send goes before what waits. */
  open: Event;
  /** A connection, or the attempt to get one, has ended. */
  close: SocketCloseEvent;
  state: SocketStateEvent;
  /** Every message, as it arrived. */
  message: SocketMessageEvent;
  /** The server reports an error that belongs to no request. */
  error: SocketErrorEvent;
}

/** A typed message: JSON text on the wire. */
export interface Message<Content = any> {
  readonly type: string;
  readonly content?: Content;
  readonly meta?: Record<string, any>;
  readonly id?: number | string | null;
}

export type MessageHandler<Content = any> = (
  content: Content,
  meta: Record<string, any>,
  message: Message<Content>,
) => void;

export class Socket extends EventTarget {
  /** @param url relative to the page, `http(s):` or `ws(s):`; or asked each time. */
  constructor(url: Source<string | URL>, options?: SocketOptions);

  readonly state: SocketState;
  /** The subprotocol that the server chose, or "". */
  readonly protocol: string;
  /** Messages that wait for a connection. */
  readonly queued: number;
  /** Bytes that the browser has still to send. */
  readonly bufferedAmount: number;

  /** Connect now: again if it is closed, at once if it waits. */
  connect(): void;
  /** Close, and stay closed. */
  close(code?: number, reason?: string): void;

  /** Call a function for each message of a type. @returns a function to stop it. */
  on<Content = any>(type: string, handler: MessageHandler<Content>): () => void;
  off(type: string, handler: MessageHandler): void;

  /**
   * Send a typed message.
   * @returns whether it went out; if not, it waits for a connection.
   * @throws SocketError "queue_full" or "closed"
   */
  send(type: string, content?: unknown, meta?: Record<string, unknown>): boolean;
  /** The same with text or binary as it is. */
  sendRaw(data: SocketData): boolean;
  /**
   * Send a typed message and wait for the reply to it. Rejects with a SocketError: what
   * the server says, "timeout", "connection_lost", "queue_full" or "closed".
   */
  request<Reply = any>(
    type: string,
    content?: unknown,
    options?: { meta?: Record<string, unknown>; timeout?: number | null },
  ): Promise<Reply>;

  addEventListener<Type extends keyof SocketEventMap>(
    type: Type,
    listener: (this: Socket, event: SocketEventMap[Type]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Type extends keyof SocketEventMap>(
    type: Type,
    listener: (this: Socket, event: SocketEventMap[Type]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

export class SocketError extends Error {
  constructor(code: string, message: string, fields?: Record<string, string[]>);
  readonly name: "SocketError";
  /** The server's, or "timeout", "connection_lost", "queue_full", "closed". */
  readonly code: string;
  /** What is wrong with the fields of the content, where the server says so. */
  readonly fields: Record<string, string[]>;
}

/** The same as `new Socket(url, options)`. */
export function connect(url: Source<string | URL>, options?: SocketOptions): Socket;

/** Whether it is closed for good: codes 1000, 1008, 3000, 3003, or a refused login. */
export function isFinal(end: Pick<SocketEnd, "code" | "status">): boolean;

/** Call functions with this namespace. Before the script has loaded it is an array's. */
export function push(
  ...callbacks: ((module: typeof import("./dwebsocket.js")) => void)[]
): void;
