/* dwebsocket-task.js as an ES module, with what it needs. */
import "./dwebsocket.module.js";
import "./dwebsocket-task.js";

export const { TaskElement, TaskWatch, texts } = globalThis.dwebsocketTask;
