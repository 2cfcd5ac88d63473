package files

import (
	"context"
	"io"
	"syscall"

	"chorus-sandbox/guest/internal/fault"
	"chorus-sandbox/guest/internal/sys"
)

const (
	// DefaultRead and MaxRead bound the content of one answer.
	DefaultRead = 32 << 10
	MaxRead     = 4 << 20
)

// ReadRequest asks for a byte range or, when LineStart or LineEnd is set, for lines.
type ReadRequest struct {
	Path               string
	Offset             int64
	MaxBytes           int64
	LineStart, LineEnd int64 // 1-based, inclusive, 0: not given
}

// ReadHeader describes the content that follows it.
type ReadHeader struct {
	File       Stat   `json:"file"`
	Offset     int64  `json:"offset"`
	Len        int    `json:"len"`
	LineStart  *int64 `json:"line_start,omitempty"`
	LineEnd    *int64 `json:"line_end,omitempty"`
	TotalLines *int64 `json:"total_lines,omitempty"`
	NextLine   *int64 `json:"next_line,omitempty"`
	NextOffset *int64 `json:"next_offset,omitempty"`
	// Omitted tells whether something of what was asked for is missing; the rest of the file does not count.
	Omitted  bool `json:"omitted"`
	CutLines int  `json:"cut_lines"`
}

// Read returns a part of a regular file.
func (f *Files) Read(ctx context.Context, r ReadRequest) (h ReadHeader, content []byte, err error) {
	full, err := f.resolve(r.Path)
	if err != nil {
		return h, nil, err
	}
	if r.Offset < 0 || r.LineStart < 0 || r.LineEnd < 0 || r.MaxBytes < 1 {
		return h, nil, fault.New(fault.InvalidArgument, "offset is 0 or more, line_start, line_end and max_bytes 1 or more")
	}
	if r.LineEnd > 0 && r.LineEnd < r.LineStart {
		return h, nil, fault.New(fault.InvalidArgument, "line_end lies before line_start")
	}
	r.MaxBytes = min(r.MaxBytes, MaxRead)
	err = f.do(ctx, r.Path, func() error {
		fd, st, err := f.openContent(r.Path, full)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		h.File = describe(r.Path, &st)
		if r.LineStart > 0 || r.LineEnd > 0 {
			content, err = readLines(ctx, fd, st.Size, r, &h)
		} else {
			content, err = readRange(fd, st.Size, r, &h)
		}
		h.Len = len(content)
		return err
	})
	return h, content, err
}

func readRange(fd int, size int64, r ReadRequest, h *ReadHeader) ([]byte, error) {
	h.Offset = r.Offset
	want := r.MaxBytes
	if size > 0 { // files below /proc say 0 and have content
		want = min(want, max(0, size-r.Offset))
	}
	buf := make([]byte, want)
	n, err := sys.ReadFull(fd, buf, r.Offset)
	if err != nil {
		return nil, err
	}
	end := r.Offset + int64(n)
	if end < size || size == 0 && int64(n) == r.MaxBytes {
		h.NextOffset = &end
	}
	h.Omitted = h.NextOffset != nil
	return buf[:n], nil
}

// cursor reads a file in steps and gives up when the caller does.
type cursor struct {
	ctx    context.Context
	fd     int
	offset int64
	buf    [64 << 10]byte
}

func (c *cursor) next() ([]byte, error) {
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	n, err := sys.ReadFull(c.fd, c.buf[:], c.offset)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	c.offset += int64(n)
	return c.buf[:n], nil
}
