"""flask-sock on gunicorn's gevent worker."""

from flask import Flask
from flask_sock import Sock

app = Flask(__name__)
sock = Sock(app)


@app.route("/hello/")
def hello():
    return "Hello"


@sock.route("/echo/")
def echo(websocket):
    while True:
        websocket.send(websocket.receive())
