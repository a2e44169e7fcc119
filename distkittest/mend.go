package distkittest

import (
	"bufio"
	"bytes"
	"math"
	"strconv"

	"github.com/alicebob/miniredis/v2/server"
)

// mend has the server answer as Redis does where miniredis does not and the library's
// script would notice.
func mend(srv *server.Server) {
	srv.SetPreHook(func(c *server.Peer, command string, args ...string) (done bool) {
		switch {
		case command == "HINCRBY" && len(args) == 3:
			if why := refuses(srv, c, args[0], args[1], args[2]); why != "" {
				c.WriteError(why)
				return true
			}
		case command == "SETRANGE" && len(args) == 3 && args[2] == "":
			if length, ok := length(srv, c, args[0]); ok {
				c.WriteInt(length)
				return true
			}
		}
		return false
	})
}

// refuses says what Redis would say to an increment, if it would not carry it out.
func refuses(srv *server.Server, c *server.Peer, container, field, by string) string {
	n, err := strconv.ParseInt(by, 10, 64)
	if err != nil {
		return "" // miniredis says it itself
	}
	held, err := ask(srv, c, "HGET", container, field)
	text, ok := held.(string)
	if err != nil || !ok {
		return "" // no field, or no hash
	}
	now, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || strconv.FormatInt(now, 10) != text:
		return "ERR hash value is not an integer"
	case n > 0 && now > math.MaxInt64-n, n < 0 && now < math.MinInt64-n:
		return "ERR increment or decrement would overflow"
	}
	return ""
}

// length is a string's, 0 where there is none; false for what is no string.
func length(srv *server.Server, c *server.Peer, name string) (n int, ok bool) {
	reply, err := ask(srv, c, "STRLEN", name)
	n, ok = reply.(int)
	return n, ok && err == nil
}

// ask has the server carry out a command in the place of another one, which may be a
// script's: the peer's context says so.
func ask(srv *server.Server, c *server.Peer, command ...string) (any, error) {
	var reply bytes.Buffer
	out := bufio.NewWriter(&reply)
	peer := server.NewPeer(out)
	peer.Ctx = c.Ctx
	srv.Dispatch(peer, command)
	if err := out.Flush(); err != nil {
		return nil, err
	}
	return server.ParseReply(bufio.NewReader(&reply))
}
