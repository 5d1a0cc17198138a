export * from "./dwebsocket.js";
