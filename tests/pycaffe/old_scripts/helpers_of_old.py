import caffe

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
layer { name: "y" type: "Python" bottom: "x" top: "y"
  python_param { module: "helpers_of_old" layer: "Half" } }
"""

def half(n):
    return n / 2

class Half(caffe.Layer):
    def setup(self, bottom, top):
        if len(bottom) <> 1:
            raise Exception, "one bottom"
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data / 2
    def backward(self, top, propagate_down, bottom):
        pass
