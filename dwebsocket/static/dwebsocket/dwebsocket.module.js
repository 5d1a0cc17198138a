/* dwebsocket.js as an ES module.  It may be on the page as a script as well. */
import "./dwebsocket.js";

export const { Socket, SocketError, connect, isFinal, push } = globalThis.dwebsocket;
